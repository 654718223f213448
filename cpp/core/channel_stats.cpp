#include "core/channel_stats.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "core/conditions.h"

namespace batchnorm {
namespace {

// (shift / rms about the pivot)^2, which bounds what is lost in sum2 - sum^2 / n: shifts of 0.7 and 0.5 of a deviation.
double OffCentre(Precision precision) { return precision == Precision::kNarrow ? 0.33 : 0.2; }

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The values are finite, but the sum of their squares isn't. (It may be NaN: what lanes keep of roundings is inf -
// inf.)
Condition Overflowed(double sum, double sum2) { return IsFinite(sum) & IsNotFinite(sum2); }

// To count modulo 2^64, and back.
std::uint64_t Bits(std::int64_t integer) { return static_cast<std::uint64_t>(integer); }
std::int64_t Wrapped(std::uint64_t bits) { return static_cast<std::int64_t>(bits); }

// A quotient of what float64 holds exactly is rounded once; in long double it would be twice.
double Quotient(std::int64_t a, std::int64_t b) {
  constexpr std::int64_t kExact = std::int64_t{1} << 53;
  if (-kExact <= a && a <= kExact && b <= kExact) return static_cast<double>(a) / static_cast<double>(b);
  return static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b));
}

}  // namespace

void MergeMoments(std::size_t channels, double count_a, Moments a, double count_b, Moments b) {
  const double weight = count_b / (count_a + count_b), of_delta = count_a * weight;
  for (std::size_t c = 0; c < channels; ++c) {
    const double delta = (b.origin[c] - a.origin[c]) + (b.offset[c] - a.offset[c]);
    a.offset[c] += delta * weight;
    a.m2[c] += b.m2[c] + delta * delta * of_delta;
  }
}

// Its loop has no branch, so that compilers make vectors of it.
template <class T>
void MergeBlock(std::size_t channels, double count_a, Moments a, double count, T* pivot, const double* sum,
                const double* sum2) {
  double *origin = a.origin, *offset = a.offset, *m2 = a.m2;
  if (count_a == 0) {
    std::copy_n(pivot, channels, origin);
    std::fill_n(offset, channels, 0.0);
    std::fill_n(m2, channels, 0.0);
  }
  const double weight = count / (count_a + count), of_delta = count_a * weight;
  for (std::size_t c = 0; c < channels; ++c) {
    const double p = static_cast<double>(pivot[c]);
    const double shift = sum[c] / count;  // not times 1 / count, which is infinite for the least of weights
    const double about_mean = sum2[c] - sum[c] * shift, positive = about_mean < 0 ? 0 : about_mean;
    const double delta = (p - origin[c]) + (shift - offset[c]);
    offset[c] += delta * weight;
    m2[c] += (Overflowed(sum[c], sum2[c]) != 0 ? kInfinity : positive) + delta * delta * of_delta;
    pivot[c] = static_cast<T>(p + shift);
  }
}

template <class T>
bool Recenter(Precision precision, std::size_t channels, double count, T* pivot, const double* sum,
              const double* sum2) {
  const double allowed = OffCentre(precision) * count;
  const auto is_off = [&](std::size_t c) {
    return Overflowed(sum[c], sum2[c]) | When(sum[c] * sum[c] > allowed * sum2[c]);
  };
  if (!Any(channels, is_off)) return false;
  bool moved = false;
  for (std::size_t c = 0; c < channels; ++c) {
    if (is_off(c) == 0) continue;
    const T mean = static_cast<T>(static_cast<double>(pivot[c]) + sum[c] / count);
    moved = moved || mean != pivot[c];
    pivot[c] = mean;
  }
  return moved;
}

template void MergeBlock(std::size_t, double, Moments, double, float*, const double*, const double*);
template void MergeBlock(std::size_t, double, Moments, double, double*, const double*, const double*);
template bool Recenter(Precision, std::size_t, double, float*, const double*, const double*);
template bool Recenter(Precision, std::size_t, double, double*, const double*, const double*);

void MergeStats(std::size_t channels, std::int64_t* count_a, double* weight_a, double* mean_a, double* m2_a,
                const std::int64_t* count_b, const double* weight_b, const double* mean_b, const double* m2_b) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  for (std::size_t c = 0; c < channels; ++c) {
    if (count_b[c] > kMost - count_a[c]) throw std::overflow_error("count: the sum passes 2**63 - 1");
    if (weight_a && !std::isfinite(weight_a[c] + weight_b[c])) {
      throw std::overflow_error("sum_weights: the sum passes the largest float64");
    }
  }
  for (std::size_t c = 0; c < channels; ++c) {
    const double a = weight_a ? weight_a[c] : static_cast<double>(count_a[c]);
    const double b = weight_b ? weight_b[c] : static_cast<double>(count_b[c]);
    count_a[c] += count_b[c];
    if (weight_a) weight_a[c] += b;
    if (b == 0) continue;
    if (a == 0) {
      mean_a[c] = mean_b[c];
      m2_a[c] = m2_b[c];
    } else {
      double offset = 0, offset_b = 0, m2 = m2_b[c], origin_b = mean_b[c];
      MergeMoments(1, a, {mean_a + c, &offset, m2_a + c}, b, {&origin_b, &offset_b, &m2});
      mean_a[c] += offset;
    }
  }
}

void IntegerSums::Add(std::size_t channels, const std::int64_t* total_b, const std::int64_t* squares_b) const {
  for (std::size_t c = 0; c < channels; ++c) {
    total[c] = Wrapped(Bits(total[c]) + Bits(total_b[c]));
    squares[c] = Wrapped(Bits(squares[c]) + Bits(squares_b[c]));
  }
}

void MomentsOfSums(std::size_t channels, const std::int64_t* count, const std::int64_t* total,
                   const std::int64_t* squares, double* mean, double* m2) {
  for (std::size_t c = 0; c < channels; ++c) {
    mean[c] = std::numeric_limits<double>::quiet_NaN();
    m2[c] = 0;
    if (count[c] == 0) continue;
    const long double n = static_cast<long double>(count[c]);
    mean[c] = Quotient(total[c], count[c]);
    const std::uint64_t near = Bits(std::llrint(mean[c])), sum = Bits(total[c]), whole = Bits(count[c]) * near;
    const long double rest = static_cast<long double>(Wrapped(sum - whole));
    const long double about = static_cast<long double>(Wrapped(Bits(squares[c]) - near * (2 * sum - whole)));
    m2[c] = static_cast<double>(about - rest * rest / n);
  }
}

bool RefineBySums(std::size_t channels, const std::int64_t* count, IntegerSums sums, double* mean, double* m2) {
  constexpr double kLargest = 2305843009213693952.0;  // 2^61, with room for the rounding of moments
  for (std::size_t c = 0; c < channels; ++c) {
    const bool fit = std::abs(mean[c]) * static_cast<double>(count[c]) < kLargest && m2[c] < kLargest;
    if (count[c] > 0 && !fit) return false;
  }
  MomentsOfSums(channels, count, sums.total, sums.squares, mean, m2);
  return true;
}

void RunningStats::Update(std::size_t channel, double count, double batch_mean, double batch_m2) const {
  if (count == 0) return;
  mean.Set(channel, (1 - momentum) * mean.Get(channel) + momentum * batch_mean);
  const double degrees = unbiased ? count - 1 : count;
  if (!(degrees > 0)) return;
  var.Set(channel, (1 - momentum) * var.Get(channel) + momentum * (batch_m2 / degrees));
}

}  // namespace batchnorm
