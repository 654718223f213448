#include "core/position_sums.h"

#include <cmath>
#include <cstdint>
#include <cstring>

namespace batchnorm {
namespace {

// A sum that keeps what its additions lose (Knuth's two-sum).
struct KeptSum {
  double sum = 0, lost = 0;
  void Add(double v) {
    const double next = sum + v, of_v = next - sum;
    lost += (sum - (next - of_v)) + (v - of_v);
    sum = next;
  }
  // An infinite sum has lost NaN.
  double Total() const { return std::isfinite(sum) ? sum + lost : sum; }
};

template <class Element>
void AddRun(const char* p, std::ptrdiff_t stride, std::size_t n, KeptSum& to) {
  for (std::size_t i = 0; i < n; ++i, p += stride) {
    Element e;
    std::memcpy(&e, p, sizeof e);
    to.Add(static_cast<double>(e));
  }
}

// How many bytes of a run aren't 0: eight at a time, in eight counters of a byte each.
double TrueOfRun(const char* p, std::ptrdiff_t stride, std::size_t n) {
  constexpr std::uint64_t kLow7 = 0x7f7f7f7f7f7f7f7f, kOnes = 0x0101010101010101, kEven = 0x00ff00ff00ff00ff;
  constexpr std::size_t kMost = 255;  // what a byte counts to
  std::size_t i = 0;
  std::uint64_t total = 0;
  while (stride == 1 && i + sizeof(std::uint64_t) <= n) {
    const std::size_t words = std::min(kMost, (n - i) / sizeof(std::uint64_t));
    std::uint64_t counters = 0;
    for (std::size_t k = 0; k < words; ++k) {
      std::uint64_t w;
      std::memcpy(&w, p + i + k * sizeof w, sizeof w);
      counters += ((((w & kLow7) + kLow7) | w) >> 7) & kOnes;
    }
    const std::uint64_t pairs = (counters & kEven) + ((counters >> 8) & kEven);
    total += (pairs * 0x0001000100010001) >> 48;
    i += words * sizeof(std::uint64_t);
  }
  for (; i < n; ++i) total += p[static_cast<std::ptrdiff_t>(i) * stride] != 0;
  return static_cast<double>(total);
}

}  // namespace

PositionSums::PositionSums(const ArrayView& array, const Layout& layout, Workers workers)
    : data_(static_cast<char*>(array.data)), dtype_(array.dtype), inner_(layout.inner) {
  std::vector<std::size_t> which = layout.position_axes;
  which.insert(which.end(), layout.inner_axes.begin(), layout.inner_axes.end());
  axes_ = Merge(AxesOf(array, which), static_cast<std::ptrdiff_t>(ItemSize(dtype_)));
  if (dtype_ != DType::kBool) return;        // sums of weights are rounded, and their differences would show it
  constexpr std::size_t kMostMarks = 4096;   // 32 KB
  constexpr std::size_t kLeastApart = 1024;  // counting so many takes no longer than a look up
  constexpr std::size_t kTaskMarks = 64;     // 64 KB at least: less isn't worth waking a thread
  const std::size_t places = layout.ValuesPerChannel();
  apart_ = std::max(kLeastApart, places / kMostMarks);
  const std::size_t marks = places / apart_;
  to_mark_.resize(marks + 1);
  const auto count = [&](std::size_t task, Scratch&) {
    for (std::size_t k = task * kTaskMarks; k < std::min(marks, (task + 1) * kTaskMarks); ++k) {
      to_mark_[k + 1] = Sum(k * apart_, (k + 1) * apart_);
    }
  };
  RunSteps({{(marks + kTaskMarks - 1) / kTaskMarks, Order::kForward, count}}, workers);
  for (std::size_t k = 0; k < marks; ++k) to_mark_[k + 1] += to_mark_[k];
}

double PositionSums::operator()(std::size_t first, std::size_t positions) const {
  const std::size_t begin = first * inner_, end = begin + positions * inner_;
  if (to_mark_.empty()) return Sum(begin, end);
  const std::size_t from = (begin + apart_ - 1) / apart_, to = end / apart_;
  if (from >= to) return Sum(begin, end);
  return Sum(begin, from * apart_) + (to_mark_[to] - to_mark_[from]) + Sum(to * apart_, end);
}

double PositionSums::Sum(std::size_t begin, std::size_t end) const {
  KeptSum sum;
  if (begin == end) return 0;
  WalkAxes(axes_, data_, begin, end - begin, [&](const char* p, const StridedRows& stretch) {
    for (std::size_t r = 0; r < stretch.rows; ++r, p += stretch.row_stride) {
      if (dtype_ == DType::kBool) {
        sum.sum += TrueOfRun(p, stretch.stride, stretch.n);
      } else {
        VisitLane(dtype_, [&](auto zero) { AddRun<decltype(zero)>(p, stretch.stride, stretch.n, sum); });
      }
    }
  });
  return sum.Total();
}

}  // namespace batchnorm
