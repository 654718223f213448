// Two sums at a time: sum of u and sum of a * b, where a term gives (u, a, b) at a place of a tile.
//
// Note [Narrow lanes widen early]: float lanes of a * b take kRounds additions in sequence, then a tree joins the
// accumulators and the result is added to float64 sums. Roundings that all go one way (a constant dy, sparse data of
// two values) don't average out: 64 additions in sequence lose 4e-7 of a variance. Four of the same value, and trees of
// them, lose nothing.
#pragma once

#include "kernels/access-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

// A vector of float as float64.
struct WideLanes {
  F64 lower{}, upper{};
};
BATCHNORM_INLINE WideLanes operator+(WideLanes a, WideLanes b) { return {a.lower + b.lower, a.upper + b.upper}; }
BATCHNORM_INLINE WideLanes Widen(F32 v) { return {PromoteLowerTo(v), PromoteUpperTo(v)}; }

// The lanes of the sum of u: float64 ones. It owes more than float lanes can give: the mean 6e-8 of the deviation,
// dbias 1e-7 of the sum of abs(dy), on any data; a batch that repeats a few values would miss both by a factor of two.
template <class Acc>
struct ExactLanesOf {
  using type = WideLanes;
};
template <>
struct ExactLanesOf<double> {
  using type = F64;
};
template <class Acc>
using ExactLanes = typename ExactLanesOf<Acc>::type;

// kLanes<Acc> elements of T for the sum of u; lanes that aren't touched are 0. Whole vectors are promoted as they are
// loaded, which takes half the instructions of promoting a vector that was loaded.
template <class Acc, class T, class Lanes>
BATCHNORM_INLINE ExactLanes<Acc> LoadExact(const T* p, Lanes lanes) {
  if constexpr (sizeof(Acc) == sizeof(double)) {
    return LoadAs<Acc>(p, lanes, Vec<Acc>{});
  } else if constexpr (sizeof(Lanes) == sizeof(All) && kLanes<float> > kLanes<double>) {
    return {LoadPromoted(p, All{}), LoadPromoted(p + kLanes<double>, All{})};
  } else {
    return Widen(LoadAs<Acc>(p, lanes, Vec<Acc>{}));
  }
}

template <class Acc>
struct Term {
  ExactLanes<Acc> u;
  Vec<Acc> a, b;
};

template <class Acc>
struct Sums {
  ExactLanes<Acc> u{};
  Vec<Acc> ab{};
  BATCHNORM_INLINE void Add(Term<Acc> term) {
    u = u + term.u;
    ab = MulAdd(term.a, term.b, ab);
  }
};

// A float64 sum of vectors. What float64 lanes lose at each addition is kept beside the sum (Knuth's two-sum): a block
// adds up to 2000 vectors here, and on periodic data their roundings all go one way. Float lanes lose more before they
// get here.
struct WideSum {
  F64 lower{}, upper{}, lost{};
  BATCHNORM_INLINE void Add(F32 v) { Add(Widen(v)); }
  BATCHNORM_INLINE void Add(WideLanes v) {
    lower += v.lower;
    upper += v.upper;
  }
  BATCHNORM_INLINE void Add(F64 v) {
    const F64 sum = lower + v;
    const F64 taken = sum - lower;
    lost += (lower - (sum - taken)) + (v - taken);
    lower = sum;
  }
  BATCHNORM_INLINE double Total() const { return ReduceSum<double>((lower + upper) + lost); }
};

constexpr std::size_t kAccumulators = 4;  // 4 cycles of latency of an addition; one pair (u, ab) issues per cycle
constexpr std::size_t kRounds = 4;        // Note [Narrow lanes widen early]

template <class Acc>
BATCHNORM_INLINE auto JoinU(const Sums<Acc> (&s)[kAccumulators]) {
  return (s[0].u + s[1].u) + (s[2].u + s[3].u);
}
template <class Acc>
BATCHNORM_INLINE auto JoinAB(const Sums<Acc> (&s)[kAccumulators]) {
  return (s[0].ab + s[1].ab) + (s[2].ab + s[3].ab);
}

// Planar: both sums over the whole tile.
template <class T, class Acc, class TermAt>
BATCHNORM_INLINE void ReduceTile(std::size_t rows, std::size_t cols, TermAt term, double* sum_u, double* sum_ab) {
  constexpr std::size_t kStep = kAccumulators * kLanes<Acc>;
  const Ahead ahead(term.input(), cols);
  WideSum u, ab;
  for (std::size_t r = 0; r < rows; ++r) {
    std::size_t i = 0;
    while (i + kStep <= cols) {
      const std::size_t left = (cols - i) / kStep;
      const std::size_t end = i + (left < kRounds ? left : kRounds) * kStep;
      Sums<Acc> s[kAccumulators];
      for (; i < end; i += kStep) {
        ahead.Prefetch<T, kStep>(term, r, i);
        for (std::size_t k = 0; k < kAccumulators; ++k) s[k].Add(term(r, i + k * kLanes<Acc>, All{}));
      }
      u.Add(JoinU(s));
      ab.Add(JoinAB(s));
    }
    Sums<Acc> s;
    for (; i + kLanes<Acc> <= cols; i += kLanes<Acc>) s.Add(term(r, i, All{}));
    if (i < cols) s.Add(term(r, i, First{cols - i}));
    u.Add(s.u);
    ab.Add(s.ab);
  }
  *sum_u = u.Total();
  *sum_ab = ab.Total();
}

// sums[0 .. lanes) += v
template <class Lanes>
BATCHNORM_INLINE void AddTo(double* sums, F64 v, Lanes lanes) {
  Store(Load(sums, lanes) + v, sums, lanes);
}
BATCHNORM_INLINE void AddTo(double* sums, WideLanes v, All) {
  AddTo(sums, v.lower, All{});
  if constexpr (kLanes<float> > kLanes<double>) AddTo(sums + kLanes<double>, v.upper, All{});
}
BATCHNORM_INLINE void AddTo(double* sums, WideLanes v, First lanes) {
  constexpr std::size_t kHalf = kLanes<double>;
  if (lanes.count < kHalf) {
    AddTo(sums, v.lower, lanes);
  } else {
    AddTo(sums, v.lower, All{});
    if (lanes.count > kHalf) AddTo(sums + kHalf, v.upper, First{lanes.count - kHalf});
  }
}
template <class Lanes>
BATCHNORM_INLINE void AddTo(double* sums, F32 v, Lanes lanes) {
  AddTo(sums, Widen(v), lanes);
}

// Rows: both sums for every column, a band of rows at a time, in as many chains as the planar walk.
constexpr std::size_t kBand = kAccumulators * kRounds;

template <class T, class Acc, class TermAt, class Lanes>
BATCHNORM_INLINE void ReduceBand(std::size_t row, std::size_t rows, std::size_t j, Lanes lanes, TermAt term,
                                 double* sum_u, double* sum_ab) {
  Sums<Acc> s[kAccumulators];
  std::size_t r = 0;
  const bool new_line = term.input().source == Source::kMemory && j % (kLineBytes / sizeof(T)) == 0;
  for (; r + kAccumulators <= rows; r += kAccumulators) {
    for (std::size_t k = 0; new_line && k < kAccumulators; ++k) term.Prefetch(row + kBand + r + k, j);
    for (std::size_t k = 0; k < kAccumulators; ++k) s[k].Add(term(row + r + k, j, lanes));
  }
  for (; r < rows; ++r) s[0].Add(term(row + r, j, lanes));
  AddTo(sum_u + j, JoinU(s), lanes);
  AddTo(sum_ab + j, JoinAB(s), lanes);
}

template <class T, class Acc, class TermAt>
BATCHNORM_INLINE void ReduceColumns(std::size_t rows, std::size_t cols, TermAt term, double* sum_u, double* sum_ab) {
  for (std::size_t j = 0; j < cols; ++j) sum_u[j] = sum_ab[j] = 0;
  for (std::size_t row = 0; row < rows; row += kBand) {
    const std::size_t band = rows - row < kBand ? rows - row : kBand;
    std::size_t j = 0;
    for (; j + kLanes<Acc> <= cols; j += kLanes<Acc>) ReduceBand<T, Acc>(row, band, j, All{}, term, sum_u, sum_ab);
    if (j < cols) ReduceBand<T, Acc>(row, band, j, First{cols - j}, term, sum_u, sum_ab);
  }
}

template <Walk W, class T, class Acc, class TermAt>
BATCHNORM_INLINE void Reduce(std::size_t rows, std::size_t cols, TermAt term, double* sum_u, double* sum_ab) {
  if constexpr (W == Walk::kPlanar) {
    ReduceTile<T, Acc>(rows, cols, term, sum_u, sum_ab);
  } else {
    ReduceColumns<T, Acc>(rows, cols, term, sum_u, sum_ab);
  }
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
