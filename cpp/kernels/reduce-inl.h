// Two sums at a time: sum of u and sum of u * v, where a term gives (u, v) at a place of a tile.
//
// Note [Narrow lanes widen early]: float lanes of u * v take kRounds additions in sequence, then a tree joins the
// accumulators and the result is added to float64 sums. Roundings that all go one way (a constant dy, sparse data of
// two values) don't average out: 64 additions in sequence lose 4e-7 of a variance. Four of the same value, and trees of
// them, lose nothing.
#pragma once

#include "kernels/access-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

template <class Acc>
struct Term {
  Vec<Acc> u, v;
};

// Float64 lanes that take a vector of float.
struct WideLanes {
  F64 lower{}, upper{};
  BATCHNORM_INLINE void operator+=(F32 v) {
    lower += PromoteLowerTo(v);
    upper += PromoteUpperTo(v);
  }
};
BATCHNORM_INLINE WideLanes operator+(WideLanes a, WideLanes b) { return {a.lower + b.lower, a.upper + b.upper}; }

// The lanes of the sum of u. It owes more than float lanes can give: the mean 6e-8 of the deviation, dbias 1e-7 of the
// sum of abs(dy), on any data; a batch that repeats a few values would miss both by a factor of two.
template <class Acc>
struct ExactLanesOf {
  using type = WideLanes;
};
template <>
struct ExactLanesOf<double> {
  using type = F64;
};

template <class Acc>
struct Sums {
  typename ExactLanesOf<Acc>::type u{};
  Vec<Acc> uv{};
  BATCHNORM_INLINE void Add(Term<Acc> term) {
    u += term.u;
    uv = MulAdd(term.u, term.v, uv);
  }
};

// A float64 sum of vectors. What float64 lanes lose at each addition is kept beside the sum (Knuth's two-sum): a block
// adds up to 500 vectors here, and on periodic data their roundings all go one way. Float lanes lose more before they
// get here.
struct WideSum {
  F64 lower{}, upper{}, lost{};
  BATCHNORM_INLINE void Add(F32 v) {
    lower += PromoteLowerTo(v);
    upper += PromoteUpperTo(v);
  }
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

constexpr std::size_t kAccumulators = 4;  // 4 cycles of latency of an addition; one pair (u, uv) issues per cycle
constexpr std::size_t kRounds = 4;        // Note [Narrow lanes widen early]

template <class Acc>
BATCHNORM_INLINE auto JoinU(const Sums<Acc> (&s)[kAccumulators]) {
  return (s[0].u + s[1].u) + (s[2].u + s[3].u);
}
template <class Acc>
BATCHNORM_INLINE auto JoinUV(const Sums<Acc> (&s)[kAccumulators]) {
  return (s[0].uv + s[1].uv) + (s[2].uv + s[3].uv);
}

// Planar: both sums over the whole tile.
template <class Acc, class TermAt>
BATCHNORM_INLINE void ReduceTile(std::size_t rows, std::size_t cols, TermAt term, double* sum_u, double* sum_uv) {
  constexpr std::size_t kStep = kAccumulators * kLanes<Acc>;
  WideSum u, uv;
  for (std::size_t r = 0; r < rows; ++r) {
    std::size_t i = 0;
    while (i + kStep <= cols) {
      const std::size_t left = (cols - i) / kStep;
      const std::size_t end = i + (left < kRounds ? left : kRounds) * kStep;
      Sums<Acc> s[kAccumulators];
      for (; i < end; i += kStep) {
        for (std::size_t k = 0; k < kAccumulators; ++k) s[k].Add(term(r, i + k * kLanes<Acc>, All{}));
      }
      u.Add(JoinU(s));
      uv.Add(JoinUV(s));
    }
    Sums<Acc> s;
    for (; i + kLanes<Acc> <= cols; i += kLanes<Acc>) s.Add(term(r, i, All{}));
    if (i < cols) s.Add(term(r, i, First{cols - i}));
    u.Add(s.u);
    uv.Add(s.uv);
  }
  *sum_u = u.Total();
  *sum_uv = uv.Total();
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
  AddTo(sums, WideLanes{PromoteLowerTo(v), PromoteUpperTo(v)}, lanes);
}

// Rows: both sums for every column, a band of rows at a time, in as many chains as the planar walk.
constexpr std::size_t kBand = kAccumulators * kRounds;

template <class Acc, class TermAt, class Lanes>
BATCHNORM_INLINE void ReduceBand(std::size_t row, std::size_t rows, std::size_t j, Lanes lanes, TermAt term,
                                 double* sum_u, double* sum_uv) {
  Sums<Acc> s[kAccumulators];
  std::size_t r = 0;
  for (; r + kAccumulators <= rows; r += kAccumulators) {
    for (std::size_t k = 0; k < kAccumulators; ++k) s[k].Add(term(row + r + k, j, lanes));
  }
  for (; r < rows; ++r) s[0].Add(term(row + r, j, lanes));
  AddTo(sum_u + j, JoinU(s), lanes);
  AddTo(sum_uv + j, JoinUV(s), lanes);
}

template <class Acc, class TermAt>
BATCHNORM_INLINE void ReduceColumns(std::size_t rows, std::size_t cols, TermAt term, double* sum_u, double* sum_uv) {
  for (std::size_t j = 0; j < cols; ++j) sum_u[j] = sum_uv[j] = 0;
  for (std::size_t row = 0; row < rows; row += kBand) {
    const std::size_t band = rows - row < kBand ? rows - row : kBand;
    std::size_t j = 0;
    for (; j + kLanes<Acc> <= cols; j += kLanes<Acc>) ReduceBand<Acc>(row, band, j, All{}, term, sum_u, sum_uv);
    if (j < cols) ReduceBand<Acc>(row, band, j, First{cols - j}, term, sum_u, sum_uv);
  }
}

template <Walk W, class Acc, class TermAt>
BATCHNORM_INLINE void Reduce(std::size_t rows, std::size_t cols, TermAt term, double* sum_u, double* sum_uv) {
  if constexpr (W == Walk::kPlanar) {
    ReduceTile<Acc>(rows, cols, term, sum_u, sum_uv);
  } else {
    ReduceColumns<Acc>(rows, cols, term, sum_u, sum_uv);
  }
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
