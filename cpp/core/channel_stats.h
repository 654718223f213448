// Statistics of a channel as (count, mean, m2), m2 the sum of squared deviations from the mean, and how they merge.
//
// The law that everything rests on (Chan, Golub and LeVeque 1979): with delta = mean_b - mean_a and n = n_a + n_b,
//     mean = mean_a + delta * n_b / n
//     m2   = m2_a + m2_b + delta^2 * n_a * n_b / n
// holds for any partition of the values; it never subtracts two large sums, so nothing cancels.
//
// While values stream in, a mean is kept as origin + offset. The origin is a value near the data and never changes;
// the offset is small, so that thousands of merges lose nothing that one rounding of the mean would keep.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/types.h"

namespace batchnorm {

// One array per field, one value per channel.
struct Moments {
  double* origin;
  double* offset;
  double* m2;

  static constexpr std::size_t kFields = 3;
  // The fields of n channels in one stretch of memory.
  static Moments In(double* memory, std::size_t n) { return {memory, memory + n, memory + 2 * n}; }
  // Those of the channels from `channel` on.
  Moments From(std::size_t channel) const { return {origin + channel, offset + channel, m2 + channel}; }
};

// a (of count_a values a channel) takes in b (of count_b), both more than 0.
void MergeMoments(std::size_t channels, double count_a, Moments a, double count_b, Moments b);

// a takes in one block, whose sums about `pivot` are sum and sum2, and the pivot moves to the block's mean.
template <class T>
void MergeBlock(std::size_t channels, double count_a, Moments a, double count, T* pivot, const double* sum,
                const double* sum2);

// Moves each pivot that lies further from the mean of the block than lanes of that precision allow (0.7 or 0.5 of a
// deviation) to that mean, and tells whether any moved: the sums should then be taken again, because sum2 - sum^2 / n
// would cancel. A sum2 that overflowed asks for the same.
template <class T>
bool Recenter(Precision precision, std::size_t channels, double count, T* pivot, const double* sum, const double* sum2);

// Public statistics: count is a number per channel. Merges b into a. Where the values have weights, each side merges as
// what these add up to (weight_a, weight_b), else, both null, as its count.
// std::overflow_error, and nothing is written, where a count would pass 2^63 - 1, or a sum of weights float64's range.
void MergeStats(std::size_t channels, std::int64_t* count_a, double* weight_a, double* mean_a, double* m2_a,
                const std::int64_t* count_b, const double* weight_b, const double* mean_b, const double* m2_b);

// Exact sums of the integers of every channel, so that parts of integer data merge to the very bits of the whole, in
// any order. Those of squares are kept modulo 2^64, as is all arithmetic of them: only what is left about an integer
// near the mean has to fit.
struct IntegerSums {
  std::int64_t *total, *squares;

  // Takes in the sums of b, which stay as they are.
  void Add(std::size_t channels, const std::int64_t* total_b, const std::int64_t* squares_b) const;
};

// Mean and m2 of integers with these sums: the mean rounded once where float64 holds the sum, all else from long
// double; NaN and 0 of none.
void MomentsOfSums(std::size_t channels, const std::int64_t* count, const std::int64_t* total,
                   const std::int64_t* squares, double* mean, double* m2);

// The same in place of moments that were found with more rounding, if those tell that nothing that matters in the sums
// of any channel passes 2^63: else false, and they stay.
bool RefineBySums(std::size_t channels, const std::int64_t* count, IntegerSums sums, double* mean, double* m2);

// What a new batch does to running statistics.
struct RunningStats {
  ChannelVector mean, var;
  double momentum;  // weight of the new value
  bool unbiased;    // the running variance takes m2 / (count - 1)

  // running = (1 - momentum) * running + momentum * batch. A channel without values stays; so does the variance where
  // the unbiased one of a single value would be needed.
  // `count` is what the values' weights add up to, if they have some.
  void Update(std::size_t channel, double count, double batch_mean, double batch_m2) const;
};

}  // namespace batchnorm
