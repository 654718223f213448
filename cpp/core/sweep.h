// The order of work that every job shares: sums over blocks, their merge, then a map over the same values.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "core/parallel.h"
#include "core/plan.h"

namespace batchnorm {

// Calls, on some thread each,
//     reduce(group, chunk, sweep, partial, scratch) for every chunk: `fields` float64 per channel of the group;
//     finish(group, partials): the partials of the group's chunks, one after the other;
//     map(group, chunk, sweep, partials, scratch) for every chunk, with what finish left in the partials.
// Group by group where there are groups for every thread: what the reduction read may then still be in cache when the
// map reads it again. Otherwise step by step, every step over all chunks.
template <class Reduce, class Finish, class Map>
void RunSweeps(const Plan& plan, int threads, std::size_t fields, Reduce reduce, Finish finish, Map map) {
  const std::size_t groups = plan.groups(), chunks = plan.chunks();
  if (chunks == 1 || groups >= 4 * static_cast<std::size_t>(threads)) {
    ParallelFor(groups, threads, [&](std::size_t group, Scratch& scratch) {
      const std::size_t size = fields * plan.Channels(group);
      double* partials = scratch.Get<double>(Scratch::kPartials, size * chunks);
      for (std::size_t k = 0; k < chunks; ++k) reduce(group, k, plan.First(), partials + k * size, scratch);
      finish(group, partials);
      for (std::size_t k = chunks; k-- > 0;) map(group, k, plan.GroupAgain(), partials, scratch);
    });
    return;
  }
  std::vector<double> memory(fields * chunks * plan.channels());
  const auto partials_of = [&](std::size_t group) {
    return memory.data() + fields * chunks * plan.FirstChannel(group);
  };
  ParallelFor(groups * chunks, threads, [&](std::size_t task, Scratch& scratch) {
    const std::size_t group = task / chunks, k = task % chunks;
    reduce(group, k, plan.First(), partials_of(group) + k * fields * plan.Channels(group), scratch);
  });
  ParallelFor(groups, threads, [&](std::size_t group, Scratch&) { finish(group, partials_of(group)); });
  ParallelFor(groups * chunks, threads, [&](std::size_t task, Scratch& scratch) {
    const std::size_t last = groups * chunks - 1 - task, group = last / chunks;
    map(group, last % chunks, plan.Again(), partials_of(group), scratch);
  });
}

// Likewise without sums.
template <class Map>
void RunMap(const Plan& plan, int threads, Map map) {
  const std::size_t chunks = plan.chunks();
  ParallelFor(plan.groups() * chunks, threads, [&](std::size_t task, Scratch& scratch) {
    map(task / chunks, task % chunks, plan.Once(), nullptr, scratch);
  });
}

// `value` in T. One beyond T's range becomes T's largest, so that 0 times it is still 0: a constant channel and a tiny
// eps give the bias.
template <class T>
T Saturate(double value) {
  constexpr double kLargest = std::numeric_limits<T>::max();
  return static_cast<T>(std::isfinite(value) ? std::clamp(value, -kLargest, kLargest) : value);
}

// Per-channel values as a kernel wants them: for rows, repeated for every column of its channel.
template <class T>
class ColumnParameters {
 public:
  // Room for `fields` parameters of the group's channels.
  ColumnParameters(const Plan& plan, std::size_t group, std::size_t fields, Scratch& scratch, Scratch::Slot slot)
      : first_(plan.FirstChannel(group)),
        channels_(plan.Channels(group)),
        planar_(plan.walk() == Walk::kPlanar),
        inner_(plan.inner()),
        columns_(plan.Columns(channels_)),
        fields_(fields),
        stride_(columns_ + kMostLanes),
        data_(scratch.Get<T>(slot, fields * stride_)) {}

  // values(c), an array of all fields, for the group's channels, c counted from its first.
  template <class Values>
  void Fill(Values values) {
    const std::size_t once = channels_ * inner_;
    for (std::size_t c = 0; c < channels_; ++c) {
      T* columns = data_ + c * inner_;
      for (const double value : values(c)) {
        std::fill_n(columns, inner_, Saturate<T>(value));
        columns += stride_;
      }
    }
    if (planar_) return;
    for (T* columns = data_; columns < data_ + fields_ * stride_; columns += stride_) {
      for (std::size_t j = once; j < stride_; ++j) columns[j] = columns[j - once];
    }
  }

  // As the kernel of this block reads them.
  T* At(std::size_t field, const Block& block) const {
    return data_ + field * stride_ + (planar_ ? block.channel - first_ : 0);
  }

  // What the rows of the block's tile are.
  PlanarRows RowsOf(const Block& block) const {
    return planar_ && block.channels > 1 ? PlanarRows::kChannels : PlanarRows::kRuns;
  }

 private:
  std::size_t first_, channels_;
  bool planar_;
  std::size_t inner_, columns_, fields_, stride_;
  T* data_;
};

// What rounding `value` to T takes away.
template <class T>
double LostByRounding(double value) {
  const double lost = value - static_cast<double>(static_cast<T>(value));
  return std::isfinite(lost) ? lost : 0;
}

// Sums of a block: a kernel gives one per column, and they are folded to one per channel.
class BlockSums {
 public:
  BlockSums(const Plan& plan, std::size_t group, Scratch& scratch)
      : planar_(plan.walk() == Walk::kPlanar),
        inner_(plan.inner()),
        columns_(plan.Columns(plan.Channels(group))),
        data_(scratch.Get<double>(Scratch::kSums, 4 * columns_)) {}

  double* first_columns() { return data_; }
  double* second_columns() { return data_ + columns_; }

  // Sums per channel of the block, after Fold.
  double* first() { return data_ + (planar_ ? 0 : 2 * columns_); }
  double* second() { return first() + columns_; }

  void Fold(const Block& block) {
    if (planar_) return;
    for (std::size_t side = 0; side < 2; ++side) Fold(block, data_ + side * columns_, data_ + (2 + side) * columns_);
  }

 private:
  void Fold(const Block& block, const double* columns, double* channels) const {
    std::fill_n(channels, block.channels, 0.0);
    for (std::size_t j = 0; j < block.cols;) {
      for (std::size_t c = 0; c < block.channels; ++c) {
        for (std::size_t i = 0; i < inner_; ++i) channels[c] += columns[j++];
      }
    }
  }

  bool planar_;
  std::size_t inner_, columns_;
  double* data_;
};

// Takes the sums of a block of n channels in lanes of `precision`, and leaves them in `sums`, one array per field.
// Where a channel's sums leave the range of narrow lanes, takes the block again in wide ones; channels in range keep
// what they have, so that what a channel gets depends on its own values alone.
template <class Take, class InRange, class... Sum>
void TakeInRange(Precision precision, std::size_t n, Scratch& scratch, Take take, InRange in_range, Sum*... sums) {
  take(precision);
  if (precision == Precision::kWide) return;
  std::size_t c = 0;
  while (c < n && in_range(sums[c]...)) ++c;
  if (c == n) return;
  auto* kept = scratch.Get<std::tuple<Sum...>>(Scratch::kKept, n);
  for (c = 0; c < n; ++c) kept[c] = {sums[c]...};
  take(Precision::kWide);
  for (c = 0; c < n; ++c) {
    if (std::apply(in_range, kept[c])) std::tie(sums[c]...) = kept[c];
  }
}

template <class T>
const WalkKernels<T>& KernelsFor(const Plan& plan, const KernelTable& table) {
  return KernelsOf(table, T{}).walk[static_cast<std::size_t>(plan.walk())];
}

}  // namespace batchnorm
