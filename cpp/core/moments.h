// Moments of the channels of one chunk.
#pragma once

#include <algorithm>

#include "core/channel_stats.h"
#include "core/shared.h"
#include "core/sweep.h"

namespace batchnorm {

// Note [Pivots]
// A block takes its sums about a pivot inside the data: the first block of a chunk about the mean of the channel's
// first values, a later one about the mean of the block before. A pivot further off the block's mean than Recenter
// allows is moved there and the block, now in cache, is taken again; so a jump in the data costs a block twice and no
// digit. A constant channel is its own first pivot: every deviation is exactly 0.
//
// Note [Narrow range]
// Squares of float lanes overflow at deviations of 1e19 and vanish at 1e-19, sums of x at values of 1e37. A channel
// whose sums in a block come near either takes them from float64 lanes. Only one whose sums are both exactly 0 is
// believed: it is constant, or its deviations are below 1e-22 and cancel.
//
// Note [Masked moments]
// Pivots start from 0, because the first values may be masked, and Recenter finds their place. Weights have kernels of
// their own.
template <class E>
class MomentReducer {
  using T = Lane<E>;

 public:
  std::size_t fields() const { return Moments::kFields; }
  std::size_t columns() const { return 1; }

  // With a mask, which outlives this and may be absent, or weights, null if none.
  MomentReducer(const Plan& plan, const KernelTable& table, const Layout& layout, const Operand<E>& x,
                Precision precision, const Mask& mask, const ArrayView* weights)
      : plan_(plan),
        table_(table),
        kernels_(KernelsFor<E>(plan, table)),
        x_(x),
        precision_(precision),
        mask_(mask),
        weights_(SharedOperandOf<E>(weights, layout, table)),
        weight_sums_(weights ? std::make_optional<PositionSums>(*weights, layout, Workers{1}) : std::nullopt),
        counts_(plan, weights ? &*weight_sums_ : mask.sums()) {}

  // First pivots: the means of the first values, which are mostly near enough to that of all; the first value alone
  // where there are too few for that.
  void Prepare(Group<T>& group, Scratch& scratch) const {
    // The mean of so many is off by 0.14, or 0.1, of a deviation: a fifth of what Recenter allows.
    const std::size_t enough = precision_ == Precision::kNarrow ? 48 : 96;
    Work work(*this, group, scratch);
    plan_.ForHead(group.index, group.span, enough, [&](const Block& block) {
      const Channels of_block = work.Of(block, group.start);
      const Tile<const E> tile = x_.Read(block, scratch, Scratch::kX);
      const double count = counts_.In(block);
      if (counts_.shared()) {
        std::fill_n(of_block.pivot, block.channels, T{});
        if (count == 0) return;
        TakeSums(precision_, block, tile, of_block, scratch);
        MovePivots(count, block.channels, of_block);
        return;
      }
      const auto first = KernelsOf(table_, T{}).gather[static_cast<std::size_t>(kDTypeOf<E>)];
      const std::ptrdiff_t apart =
          plan_.walk() == Walk::kPlanar ? tile.channel_stride : static_cast<std::ptrdiff_t>(plan_.inner());
      first(reinterpret_cast<const char*>(tile.data), {block.channels, apart * static_cast<std::ptrdiff_t>(sizeof(E))},
            0, of_block.pivot);
      if (2 * count > counts_.InChunk(0)) return;
      TakeSums(precision_, block, tile, of_block, scratch);
      MovePivots(count, block.channels, of_block);
    });
  }

  // Fills Moments::In(group.Partial(chunk), group.channels).
  void operator()(const Group<T>& group, std::size_t chunk, const Sweep& sweep, Scratch& scratch) const {
    const Moments all = Moments::In(group.Partial(chunk), group.channels);
    if (counts_.InChunk(chunk) == 0) std::fill_n(group.Partial(chunk), fields() * group.channels, 0.0);
    T* pivots = scratch.Get<T>(Scratch::kPivot, group.channels);
    std::copy_n(group.start, group.channels, pivots);
    Work work(*this, group, scratch);
    double before = 0, count = 0;
    std::size_t position = static_cast<std::size_t>(-1);
    plan_.ForEachBlock(group.index, chunk, sweep, [&](const Block& block) {
      if (block.first != position) {  // planar: the channels of a group share their positions
        position = block.first;
        before += count;
        count = counts_.In(block);
      }
      if (count == 0) return;
      const std::size_t c = block.channel - group.first;
      const Moments moments = all.From(c);
      const Tile<const E> tile = x_.Read(block, scratch, Scratch::kX);
      const Channels of_block = work.Of(block, pivots);
      const auto settle = [&](Precision precision) { Settle(precision, block, tile, count, of_block, scratch); };
      BlockSums& sums = of_block.sums;
      TakeInRange(precision_, block.channels, scratch, settle, OutOfNarrowRange, sums.first(), sums.second(),
                  of_block.pivot);
      MergeBlock(block.channels, before, moments, count, of_block.pivot, sums.first(), sums.second());
    });
  }

  // Merges the chunks, in their order, into the first; done(channel, mean, m2) takes them.
  template <class Done>
  void Finish(const Group<T>& group, Done done) const {
    const auto at = [&](std::size_t chunk) {
      return Moments::In(group.Partial(chunk), group.channels).From(group.span.begin);
    };
    const Moments total = at(0);
    const std::size_t channels = group.span.end - group.span.begin;
    double count = counts_.InChunk(0);
    for (std::size_t k = 1; k < plan_.chunks(); ++k) {
      const double more = counts_.InChunk(k);
      if (more == 0) continue;
      MergeMoments(channels, count, total, more, at(k));
      count += more;
    }
    for (std::size_t i = 0; i < channels; ++i) {
      done(group.first + group.span.begin + i, total.origin[i] + total.offset[i], total.m2[i]);
    }
  }

 private:
  struct Channels {  // of one block
    T* pivot;
    ColumnParameters<T>& columns;
    BlockSums& sums;
  };

  // Memory that the blocks of a task take in turn.
  struct Work {
    std::size_t first;
    ColumnParameters<T> columns;
    BlockSums sums;

    Work(const MomentReducer& reducer, const Group<T>& group, Scratch& scratch)
        : first(group.first),
          columns(reducer.plan_, group.index,
                  scratch.Get<T>(Scratch::kColumns, ColumnParameters<T>::Size(reducer.plan_, group.channels, 1))),
          sums(reducer.plan_, group.index, scratch) {}
    // With the pivots of the group's channels.
    Channels Of(const Block& block, T* pivots) { return {pivots + (block.channel - first), columns, sums}; }
  };

  static void MovePivots(double count, std::size_t channels, Channels of_block) {
    for (std::size_t i = 0; i < channels; ++i) {
      const double mean = static_cast<double>(of_block.pivot[i]) + of_block.sums.first()[i] / count;
      of_block.pivot[i] = std::isfinite(mean) ? static_cast<T>(mean) : of_block.pivot[i];
    }
  }

  void TakeSums(Precision precision, const Block& block, Tile<const E> tile, Channels to, Scratch& scratch) const {
    const T* pivot_columns = plan_.walk() == Walk::kRows ? to.columns.Expand(to.pivot) : to.pivot;
    if (weights_) {
      kernels_.weighted_moments(tile, weights_->Read(block, scratch), pivot_columns, to.sums.first_columns(),
                                to.sums.second_columns());
      return to.sums.Fold(block);
    }
    kernels_.moments[static_cast<std::size_t>(precision)](tile, mask_.Read(block, scratch), pivot_columns,
                                                          to.sums.first_columns(), to.sums.second_columns());
    to.sums.Fold(block);
  }

  // Note [Narrow range]
  static Condition OutOfNarrowRange(double sum, double sum2, T) {
    return IsNotFinite(sum) | When(!(sum2 < 1e34)) | (When(sum2 < 1e-26) & (When(sum != 0) | When(sum2 != 0)));
  }

  // Takes the sums until every pivot is near its block's mean.
  void Settle(Precision precision, const Block& block, Tile<const E> tile, double count, Channels to,
              Scratch& scratch) const {
    constexpr int kMostTries = 3;  // a pivot that is off by rounding alone needs a third
    for (int attempt = 1;; ++attempt) {
      TakeSums(precision, block, tile, to, scratch);
      if (attempt == kMostTries ||
          !Recenter(precision, block.channels, count, to.pivot, to.sums.first(), to.sums.second()))
        return;
    }
  }

  const Plan& plan_;
  const KernelTable& table_;
  const WalkKernels<E>& kernels_;
  const Operand<E>& x_;
  Precision precision_;
  const Mask& mask_;
  std::optional<SharedOperand<E>> weights_;
  std::optional<PositionSums> weight_sums_;
  Counts counts_;
};

}  // namespace batchnorm
