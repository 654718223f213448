// Moments of the channels of one chunk.
#pragma once

#include <algorithm>

#include "core/channel_stats.h"
#include "core/sweep.h"

namespace batchnorm {

// Note [Pivots]
// A block takes its sums about a pivot inside the data: the first block of a chunk about the mean of its first 96
// values, a later one about the mean of the block before. A pivot more than half a standard deviation off the block's
// mean is moved there and the block, now in cache, is taken again; so a jump in the data costs a block twice and no
// digit. A constant channel is its own first pivot: every deviation is exactly 0.
//
// Note [Narrow range]
// Squares of float lanes overflow at deviations of 1e19 and vanish at 1e-19, sums of x at values of 1e37. A channel
// whose sums in a block come near either takes them from float64 lanes. Only one whose sums are both exactly 0 is
// believed: it is constant, or its deviations are below 1e-22 and cancel.
template <class T>
class MomentReducer {
 public:
  MomentReducer(const Plan& plan, const KernelTable& table, const Operand<T>& x, Precision precision)
      : plan_(plan), kernels_(KernelsFor<T>(plan, table)), x_(x), precision_(precision) {}

  // Fills Moments::In(partial, channels of the group).
  void operator()(std::size_t group, std::size_t chunk, const Sweep& sweep, double* partial, Scratch& scratch) const {
    const std::size_t first = plan_.FirstChannel(group), channels = plan_.Channels(group);
    const Moments all = Moments::In(partial, channels);
    T* pivots = scratch.Get<T>(Scratch::kPivot, channels);
    ColumnParameters<T> columns(plan_, group, 1, scratch, Scratch::kColumns);
    BlockSums sums(plan_, group, scratch);
    double before = 0;
    std::size_t position = static_cast<std::size_t>(-1);
    double seen = 0;
    plan_.ForEachBlock(group, chunk, sweep, [&](const Block& block) {
      if (block.first != position) {  // planar: the channels of a group share their positions
        position = block.first;
        before = seen;
        seen += static_cast<double>(block.positions * plan_.inner());
      }
      const std::size_t c = block.channel - first;
      const Moments moments = {all.origin + c, all.offset + c, all.m2 + c};
      const Tile<const T> tile = x_.Read(block, scratch, Scratch::kX);
      const Channels of_block = {pivots + c, columns, sums};
      if (before == 0) Guess(block, tile, of_block);
      const double count = seen - before;
      const auto settle = [&](Precision precision) { Settle(precision, block, tile, count, of_block); };
      TakeInRange(precision_, block.channels, scratch, settle, InNarrowRange, sums.first(), sums.second(), pivots + c);
      MergeBlock(block.channels, before, moments, count, pivots + c, sums.first(), sums.second());
    });
  }

 private:
  struct Channels {  // of one block
    T* pivot;
    ColumnParameters<T>& columns;
    BlockSums& sums;
  };

  // First pivots: the means of the first values of the block, which are mostly near enough to that of all.
  void Guess(const Block& block, Tile<const T> tile, Channels to) const {
    constexpr std::size_t kEnough = 96;  // the mean of so many is off by 0.1 of a deviation
    for (std::size_t i = 0; i < block.channels; ++i) to.pivot[i] = tile.data[i * plan_.inner()];
    const std::size_t row_values = block.positions * plan_.inner() / block.rows;
    Tile<const T> head = tile;
    head.rows = (kEnough + row_values - 1) / row_values;
    if (plan_.walk() == Walk::kPlanar) head.cols = std::min(head.cols, kEnough);
    const std::size_t values = head.rows * head.cols / block.channels;
    if (head.rows * head.cols * 2 > tile.rows * tile.cols) return;
    Block few = block;
    few.rows = head.rows;
    few.cols = head.cols;
    TakeSums(precision_, few, head, to);
    for (std::size_t i = 0; i < block.channels; ++i) {
      const double mean = static_cast<double>(to.pivot[i]) + to.sums.first()[i] / static_cast<double>(values);
      if (std::isfinite(mean)) to.pivot[i] = static_cast<T>(mean);
    }
  }

  void TakeSums(Precision precision, const Block& block, Tile<const T> tile, Channels to) const {
    const T* pivot_columns = to.pivot;
    if (plan_.walk() == Walk::kRows) {
      to.columns.Fill([&to](std::size_t c) { return std::array<double, 1>{static_cast<double>(to.pivot[c])}; });
      pivot_columns = to.columns.At(0, block);
    }
    kernels_.moments[static_cast<std::size_t>(precision)](tile, pivot_columns, to.sums.first_columns(),
                                                          to.sums.second_columns());
    to.sums.Fold(block);
  }

  // Note [Narrow range]
  static bool InNarrowRange(double sum, double sum2, T) {
    return std::isfinite(sum) && sum2 < 1e34 && (sum2 >= 1e-26 || (sum == 0 && sum2 == 0));
  }

  // Takes the sums until every pivot is near its block's mean.
  void Settle(Precision precision, const Block& block, Tile<const T> tile, double count, Channels to) const {
    constexpr int kMostTries = 3;  // a pivot that is off by rounding alone needs a third
    for (int attempt = 1;; ++attempt) {
      TakeSums(precision, block, tile, to);
      if (attempt == kMostTries || !Recenter(block.channels, count, to.pivot, to.sums.first(), to.sums.second()))
        return;
    }
  }

  const Plan& plan_;
  const WalkKernels<T>& kernels_;
  const Operand<T>& x_;
  Precision precision_;
};

// Merges the chunks of a group, in their order, into the first.
inline Moments MergeChunks(const Plan& plan, std::size_t group, double* partials) {
  const std::size_t channels = plan.Channels(group);
  const Moments total = Moments::In(partials, channels);
  double count = static_cast<double>(plan.Values(0));
  for (std::size_t k = 1; k < plan.chunks(); ++k) {
    const double more = static_cast<double>(plan.Values(k));
    MergeMoments(channels, count, total, more, Moments::In(partials + k * Moments::kFields * channels, channels));
    count += more;
  }
  return total;
}

}  // namespace batchnorm
