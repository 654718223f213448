// Moments of integer channels: exact, whatever their size.
#pragma once

#include <array>
#include <cstdint>

#include "core/shared.h"
#include "core/sweep.h"

namespace batchnorm {

// Integers of at most 16 bits are taken about 0 in float64 lanes: their sums and sums of squares in a block are below
// 2^53, so that nothing is rounded. Bytes have kernels of their own; where a mask tells which ones count, float32 lanes
// do: they widen after 16 squares, which are below 2^24, and their sums keep what they lose. Over blocks a sum of
// squares goes on in two parts, the upper one in units of kUnit.
template <class E>
class IntegerReducer {
  using T = Lane<E>;

 public:
  enum { kSum, kLower, kUpper, kFields };

  std::size_t fields() const { return kFields; }
  std::size_t columns() const { return 1; }  // zeros, the pivots

  // The mask, which may be absent, outlives this.
  IntegerReducer(const Plan& plan, const KernelTable& table, const Operand<E>& x, Precision precision, const Mask& mask)
      : plan_(plan),
        kernels_(KernelsFor<E>(plan, table)),
        x_(x),
        precision_(precision),
        counts_(plan, mask.sums()),
        mask_(mask) {}

  void Prepare(Group<T>& group, Scratch&) const {
    ColumnParameters<T>(plan_, group.index, group.start).Fill(1, group.span, [](std::size_t) {
      return std::array<double, 1>{};
    });
  }

  void operator()(const Group<T>& group, std::size_t chunk, const Sweep& sweep, Scratch& scratch) const {
    double* partial = group.Partial(chunk);
    std::fill_n(partial, kFields * group.channels, 0.0);
    BlockSums sums(plan_, group.index, scratch);
    plan_.ForEachBlock(group.index, chunk, sweep, [&](const Block& block) {
      const Tile<const E> tile = x_.Read(block, scratch, Scratch::kX);
      if constexpr (kByte<E>) {
        kernels_.sums(tile, sums.first_columns(), sums.second_columns());
      } else {
        kernels_.moments[static_cast<std::size_t>(precision_)](tile, mask_.Read(block, scratch), group.start,
                                                               sums.first_columns(), sums.second_columns());
      }
      sums.Fold(block);
      double* into = partial + (block.channel - group.first);
      for (std::size_t c = 0; c < block.channels; ++c) {
        Add(into + c, group.channels, sums.first()[c], sums.second()[c], 0);
      }
    });
  }

  // done(channel, mean, m2, sum, sum of squares): the moments are rounded a few times after exact sums, that of squares
  // is modulo 2^64.
  template <class Done>
  void Finish(const Group<T>& group, Done done) const {
    double count = counts_.InChunk(0);
    for (std::size_t k = 1; k < plan_.chunks(); ++k) {
      count += counts_.InChunk(k);
      for (std::size_t c = group.span.begin; c < group.span.end; ++c) {
        const double* more = group.Partial(k) + c;
        Add(group.partials + c, group.channels, more[kSum * group.channels], more[kLower * group.channels],
            more[kUpper * group.channels]);
      }
    }
    for (std::size_t c = group.span.begin; c < group.span.end; ++c) {
      const double* total = group.partials + c;
      const double sum = total[kSum * group.channels];
      const double lower = total[kLower * group.channels], upper = total[kUpper * group.channels];
      const std::uint64_t squares = static_cast<std::uint64_t>(upper) * kUnit + static_cast<std::uint64_t>(lower);
      done(group.first + c, sum / count, AboutMean(sum, lower, upper, count), static_cast<std::int64_t>(sum),
           static_cast<std::int64_t>(squares));
    }
  }

 private:
  static constexpr std::uint64_t kUnit = std::uint64_t{1} << 52;

  static void Add(double* into, std::size_t field, double sum, double lower, double upper) {
    into[kSum * field] += sum;
    double& below = into[kLower * field];
    below += lower;
    into[kUpper * field] += upper;
    if (below >= static_cast<double>(kUnit)) {
      below -= static_cast<double>(kUnit);
      into[kUpper * field] += 1;
    }
  }

  // (sum of squares) - sum^2 / n without cancelling: both as a sum of two float64.
  static double AboutMean(double sum, double lower, double upper, double count) {
    const double mean = sum / count, rest = std::fma(-mean, count, sum) / count;  // mean + rest = sum / count
    const double square = sum * mean, lost = std::fma(sum, mean, -square) + sum * rest;
    const double m2 = ((upper * static_cast<double>(kUnit) - square) + lower) - lost;
    return m2 < 0 ? 0 : m2;
  }

  const Plan& plan_;
  const WalkKernels<E>& kernels_;
  const Operand<E>& x_;
  Precision precision_;
  Counts counts_;
  const Mask& mask_;
};

}  // namespace batchnorm
