// From a layout to a partition: which blocks there are, and in which order their sums are merged.
//
// Note [Fixed partition]
// Channels are cut into groups, the positions of a group into chunks, a chunk into blocks. Chunks and blocks depend on
// the shape, the element type and the memory order of x alone, so any number of threads and any cache give the same
// bits: threads only choose which of them takes a (group, chunk), and in which order. In the planar walk, where the
// channels of a group share nothing but the order of work, a small cache may cut groups finer than those that the
// chunks are counted for.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>

#include "core/types.h"
#include "core/view.h"

namespace batchnorm {

// How a sweep meets the values of a chunk. Sums go by runs, a channel's runs at one stride together, and
// as many channels as a tile may hold; maps go by channels where runs of neighbours touch in memory.
struct Sweep {
  Source source;
  Order order;
  bool sums;
  std::size_t next_channels = 0;  // Source::kNext: how many channels further the values lie that are asked for
  bool keeps = false;             // Note [Kept tiles]
};

// Whether values are read along with an array that all channels share. Where channels are innermost, and fill a vector,
// a row of a tile is then one position, so that the array has one value per row; else weights, which are repeated for
// each channel, are left room in L2. A mask is bytes.
enum class Company { kNone, kMask, kWeights };

// Some of a group's channels, counted from its first.
struct Span {
  std::size_t begin, end;
};

// Of a tile: 1 MB of float32.
constexpr std::size_t kMostTileElements = 262144;

class Plan {
 public:
  template <class E>
  Plan(const Layout& layout, const Operand<E>& x, Purpose purpose, Company company = Company::kNone);

  std::size_t groups() const { return groups_; }
  std::size_t chunks() const { return chunks_; }
  Walk walk() const { return walk_; }
  std::size_t channels() const { return channels_; }

  std::size_t FirstChannel(std::size_t group) const { return std::min(channels_, group * group_channels_); }
  std::size_t Channels(std::size_t group) const { return FirstChannel(group + 1) - FirstChannel(group); }
  // Columns that a kernel sees of that many channels, at most: one per channel when planar.
  std::size_t Columns(std::size_t channels) const { return channels * inner_ * repeat_; }
  std::size_t inner() const { return inner_; }

  // What is done once per channel, before and after the sums, is shared out in spans of a group's channels, where one
  // group has many.
  std::size_t spans() const { return spans_; }
  Span SpanOf(std::size_t group, std::size_t span) const {
    const std::size_t channels = Channels(group);
    return {channels * span / spans_, channels * (span + 1) / spans_};
  }

  // Values per channel in a chunk.
  std::size_t Values(std::size_t chunk) const;
  // The first position of a chunk, and how many they are.
  std::pair<std::size_t, std::size_t> Positions(std::size_t chunk) const {
    const std::size_t first = Position(Unit(chunk));
    return {first, Position(Unit(chunk + 1)) - first};
  }

  // The sweep that sums; the map of a job without sums; the map after the sums of all groups, and right after those of
  // its own group. Again is backwards: what was read last is still in cache.
  Sweep First() const { return {source_, Order::kForward, true}; }
  Sweep Once() const { return {map_source_, Order::kForward, false}; }
  Sweep Again() const { return {map_source_, Order::kBackward, false}; }
  // The sweep that sums a group right before it is mapped.
  Sweep GroupFirst() const { return {source_, Order::kForward, true, 0, keeps_}; }
  // `on` groups further is the one that this thread takes next; 0 if none.
  Sweep GroupAgain(std::size_t on) const {
    const bool ask = on > 0 && asks_for_next_;
    return {ask ? Source::kNext : group_source_, Order::kBackward, false, ask ? on * group_channels_ : 0, keeps_};
  }

  // Calls body(block) for the blocks of a chunk, in the sweep's order of position.
  template <class Body>
  void ForEachBlock(std::size_t group, std::size_t chunk, const Sweep& sweep, Body body) const;
  // For the first values of some of the group's channels, `values` of each or somewhat more where there are so many.
  template <class Body>
  void ForHead(std::size_t group, Span span, std::size_t values, Body body) const;

 private:
  std::size_t Neighbours(std::size_t channel_bytes, std::size_t cached_bytes, Purpose purpose) const;
  std::size_t Unit(std::size_t chunk) const { return chunk_units_ * chunk + std::min(chunk, longer_chunks_); }
  std::size_t Position(std::size_t unit) const {
    return std::min(positions_, unit / pieces_ * run_ + std::min(run_, unit % pieces_ * piece_));
  }
  template <class Body>
  void EmitBlock(std::size_t group, Span span, std::size_t first, std::size_t end, const Sweep& sweep, Body body) const;

  Walk walk_;
  std::size_t positions_, channels_, inner_;
  std::size_t groups_, group_channels_, spans_;
  std::size_t repeat_ = 1;      // positions in one row of a tile (kRows)
  std::size_t run_;             // positions that a tile may take without crossing a gap
  std::size_t pieces_, piece_;  // a run is cut into pieces of this many positions, the last one shorter
  std::size_t tile_runs_ = 1;   // runs in one tile (kPlanar, where a run is one piece)
  std::size_t runs_at_one_stride_ = 1;
  std::size_t chunks_, chunk_units_, longer_chunks_;  // the first longer_chunks_ have one unit more
  Source source_, map_source_, group_source_;
  PlanarRows map_rows_ = PlanarRows::kRuns;
  bool asks_for_next_;
  bool keeps_;
};

template <class Body>
void Plan::ForEachBlock(std::size_t group, std::size_t chunk, const Sweep& sweep, Body body) const {
  const Span all = {0, Channels(group)};
  std::size_t first = Unit(chunk), end = Unit(chunk + 1);
  while (first < end) {
    if (sweep.order == Order::kForward) {
      const std::size_t at_one_stride = runs_at_one_stride_ - first % runs_at_one_stride_;
      const std::size_t next = first + std::min({tile_runs_, end - first, at_one_stride});
      EmitBlock(group, all, Position(first), Position(next), sweep, body);
      first = next;
    } else {
      const std::size_t at_one_stride = (end - 1) % runs_at_one_stride_ + 1;
      const std::size_t next = end - std::min({tile_runs_, end - first, at_one_stride});
      EmitBlock(group, all, Position(next), Position(end), sweep, body);
      end = next;
    }
  }
}

template <class Body>
void Plan::EmitBlock(std::size_t group, Span span, std::size_t first, std::size_t end, const Sweep& sweep,
                     Body body) const {
  const std::size_t channel = FirstChannel(group) + span.begin, channels = span.end - span.begin, n = end - first;
  const auto emit = [&](std::size_t position, std::size_t positions, std::size_t c, std::size_t of, std::size_t rows,
                        std::size_t cols) {
    Block block{position, positions, c, of, rows, cols, sweep.source, sweep.next_channels};
    if (sweep.keeps) {
      const std::size_t place = walk_ == Walk::kPlanar ? (c - channel) * positions_ + position : position * of * inner_;
      block.keeping = {group + 1, sweep.order == Order::kBackward, place, positions_, positions_ * channels * inner_};
    }
    body(block);
  };
  if (walk_ == Walk::kPlanar) {
    const std::size_t cols = std::min(n, run_);
    if (!sweep.sums && map_rows_ == PlanarRows::kChannels && channels > 1) {
      for (std::size_t p = first; p < end; p += cols) emit(p, cols, channel, channels, channels, cols);
      return;
    }
    const std::size_t at_once = sweep.sums ? std::max<std::size_t>(1, kMostTileElements / n) : 1;
    const std::size_t end_channel = channel + channels;
    for (std::size_t c = channel; c < end_channel; c += at_once) {
      emit(first, n, c, std::min(at_once, end_channel - c), n / cols, cols);
    }
    return;
  }
  const std::size_t cols = channels * inner_, rows = n / repeat_, rest = n % repeat_;
  if (rows > 0) emit(first, n - rest, channel, channels, rows, repeat_ * cols);
  if (rest > 0) emit(end - rest, rest, channel, channels, 1, rest * cols);
}

template <class Body>
void Plan::ForHead(std::size_t group, Span span, std::size_t values, Body body) const {
  const std::size_t wanted = (values + inner_ - 1) / inner_;
  const std::size_t unit = walk_ == Walk::kRows ? repeat_ : std::min(run_, wanted);
  const std::size_t most = std::max<std::size_t>(1, std::min(positions_, runs_at_one_stride_ * run_) / unit);
  EmitBlock(group, span, 0, std::min(positions_, unit * std::min(most, (wanted + unit - 1) / unit)), First(), body);
}

// The lanes of a training call's sums. Narrow ones are up to twice as fast in cache; their roundings average out, but
// not over a few values. Those of float64 are wide.
template <class E>
Precision TrainingPrecision(std::int64_t count) {
  constexpr std::int64_t kFewValues = 32;
  const bool wide = sizeof(E) == sizeof(double) || count < kFewValues;
  return wide ? Precision::kWide : Precision::kNarrow;
}

// For an output, and values that a map reads a second time.
Storing StoringFor(std::size_t output_bytes, std::size_t read_again_bytes);
// For tests, whose arrays are small: other bounds than those that follow from the caches, which none brings back. Of
// what is stored past the caches, and of one array's part in a group of channels.
void SetStreamAbove(std::optional<std::size_t> bytes);
void SetGroupBytes(std::optional<std::size_t> bytes);

// Fewer threads than asked for where there is too little to do.
Workers WorkersFor(std::size_t bytes, Workers workers);

}  // namespace batchnorm
