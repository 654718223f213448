// What the sweeps over one channel group leave for each other.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "core/plan.h"

namespace batchnorm {

// `value` in T. One beyond T's range becomes T's largest, so that 0 times it is still 0: a constant channel and a tiny
// eps give the bias. All NaNs become one, whose low bits are 0 (ToBFloat16).
template <class T>
T Saturate(double value) {
  constexpr double kLargest = std::numeric_limits<T>::max();
  if (std::abs(value) <= kLargest) return static_cast<T>(value);
  if (std::isnan(value)) return std::numeric_limits<T>::quiet_NaN();
  return static_cast<T>(std::isfinite(value) ? std::copysign(kLargest, value) : value);
}

// What rounding `value` to T takes away.
template <class T>
double LostByRounding(double value) {
  const double lost = value - static_cast<double>(static_cast<T>(value));
  return std::isfinite(lost) ? lost : 0;
}

// Per-channel values as a kernel wants them: for rows, repeated for every column of its channel.
template <class T>
class ColumnParameters {
 public:
  // Elements that `fields` parameters of so many channels take.
  static std::size_t Size(const Plan& plan, std::size_t channels, std::size_t fields) {
    return fields * (plan.Columns(channels) + kMostLanes);
  }

  // Of the group's channels, in memory of that Size.
  ColumnParameters(const Plan& plan, std::size_t group, T* memory)
      : first_(plan.FirstChannel(group)),
        channels_(plan.Channels(group)),
        planar_(plan.walk() == Walk::kPlanar),
        inner_(plan.inner()),
        columns_(plan.Columns(channels_)),
        stride_(columns_ + kMostLanes),
        data_(memory) {}

  // The first `fields` of values(c), for some of the group's channels, c counted from its first.
  template <class Values>
  void Fill(std::size_t fields, Span span, Values values) {
    for (std::size_t c = span.begin; c < span.end; ++c) {
      T* columns = data_ + c * inner_;
      const auto of_channel = values(c);
      for (std::size_t i = 0; i < fields; ++i) {
        std::fill_n(columns, inner_, Saturate<T>(of_channel[i]));
        columns += stride_;
      }
    }
    if (span.begin == 0) Repeat(fields);
  }

  // The one parameter of a kernel without a wrap: what lies in memory already where columns are channels.
  const T* Expand(const T* of_channels) {
    if (columns_ == channels_) return of_channels;
    for (std::size_t c = 0; c < channels_; ++c) std::fill_n(data_ + c * inner_, inner_, of_channels[c]);
    Repeat(1);
    return data_;
  }

  // As the kernel of this block reads them.
  T* At(std::size_t field, const Block& block) const {
    return data_ + field * stride_ + (planar_ ? block.channel - first_ : 0);
  }

  // What the rows of the block's tile are.
  PlanarRows RowsOf(const Block& block) const {
    return planar_ && block.RowsAreChannels() ? PlanarRows::kChannels : PlanarRows::kRuns;
  }

 private:
  // Behind those of the group's channels: of spans, the first has all that repeats.
  void Repeat(std::size_t fields) {
    if (planar_) return;
    const std::size_t once = channels_ * inner_;
    for (T* columns = data_; columns < data_ + fields * stride_; columns += stride_) {
      for (std::size_t j = once; j < stride_; ++j) columns[j] = columns[j - once];
    }
  }

  std::size_t first_, channels_;
  bool planar_;
  std::size_t inner_, columns_, stride_;
  T* data_;
};

template <class T>
struct Group {
  std::size_t index, first, channels;
  T* start;                 // what the sums of every chunk start from, as the reduction prepared it
  double* partials;         // the sums of the chunks, one after the other
  std::size_t fields;       // of a channel in them
  ColumnParameters<T> map;  // what the map takes
  Span span;                // the channels that are prepared or finished

  double* Partial(std::size_t chunk) const { return partials + chunk * fields * channels; }
  // Adds plain sums of the chunks, in their order, into those of the first.
  double* AddChunks(std::size_t chunks) const {
    for (std::size_t k = 1; k < chunks; ++k) {
      for (std::size_t first = 0; first < fields * channels; first += channels) {
        for (std::size_t i = first + span.begin; i < first + span.end; ++i) partials[i] += Partial(k)[i];
      }
    }
    return partials;
  }
};

// The room that a group takes: `fields` float64 of each chunk, and elements per column. Those of the map begin `lead`
// elements past a boundary of vectors, as what it writes does (Note [Lead]).
template <class T>
class GroupRoom {
 public:
  GroupRoom(const Plan& plan, std::size_t fields, std::size_t start_columns, std::size_t map_columns, std::size_t lead)
      : plan_(plan), fields_(fields) {
    const std::size_t channels = plan.Channels(0);
    start_ = Aligned(fields * plan.chunks() * channels * sizeof(double));
    map_ = start_ + Aligned(ColumnParameters<T>::Size(plan, channels, start_columns) * sizeof(T)) + lead * sizeof(T);
    bytes_ = Aligned(map_ + ColumnParameters<T>::Size(plan, channels, map_columns) * sizeof(T));
  }

  std::size_t bytes() const { return bytes_; }

  Group<T> At(std::byte* memory, std::size_t group) const {
    T* map = reinterpret_cast<T*>(memory + map_);
    return {group,
            plan_.FirstChannel(group),
            plan_.Channels(group),
            reinterpret_cast<T*>(memory + start_),
            reinterpret_cast<double*>(memory),
            fields_,
            ColumnParameters<T>(plan_, group, map),
            {0, plan_.Channels(group)}};
  }

 private:
  static std::size_t Aligned(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

  const Plan& plan_;
  std::size_t fields_, start_, map_, bytes_;
};

}  // namespace batchnorm
