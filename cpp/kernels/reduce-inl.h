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
  F64 lower, upper;
};
BATCHNORM_INLINE WideLanes operator+(WideLanes a, WideLanes b) { return {a.lower + b.lower, a.upper + b.upper}; }
BATCHNORM_INLINE WideLanes Widen(F32 v) { return {PromoteLowerTo(v), PromoteUpperTo(v)}; }

// Note [Exact u]: the sum of u owes more than float lanes can give: the mean 6e-8 of the deviation, dbias 1e-7 of the
// sum of abs(dy), on any data, and a batch that repeats a few values makes all roundings go one way. So what an
// addition loses is kept beside the sum (Dekker's fast two-sum). That is exact where the sum is at least as large as
// the value, else off by up to a rounding of the value. Where values lie far from 0 that would be too much, for what is
// lost of the mean counts in units of the deviation: a term tells where its chains start, at twice the pivot for the
// sum of x, so that the sum is always the larger one. Promoting every u to float64 lanes takes half as long again.
//
// Half precisions have 11 bits or fewer, so that from 0 on thousands of values of a size add up without a loss: nothing
// is kept.
template <class Acc, bool kKeeps>
struct ExactSum {
  Vec<Acc> sum{};
  BATCHNORM_INLINE void Add(Vec<Acc> v) { sum += v; }
  BATCHNORM_INLINE auto Total(Vec<Acc> start) const {
    if constexpr (sizeof(Acc) == sizeof(double)) {
      return sum - start;
    } else {
      const WideLanes s = Widen(sum), from = Widen(start);
      return WideLanes{s.lower - from.lower, s.upper - from.upper};
    }
  }
};
template <>
struct ExactSum<float, true> {
  F32 sum{}, lost{};
  BATCHNORM_INLINE void Add(F32 v) {
    const F32 next = sum + v;
    lost = Plus(v - (next - sum), lost);
    sum = next;
  }
  BATCHNORM_INLINE WideLanes Total(F32 start) const {
    const WideLanes s = Widen(sum), from = Widen(start), l = Widen(lost);
    return {(s.lower - from.lower) + l.lower, (s.upper - from.upper) + l.upper};
  }
};
// Whether a chain of u in lanes of Acc keeps what it loses.
template <class E, class Acc>
constexpr bool kKeepsLost = sizeof(Acc) == sizeof(float) && !kHalfPrecision<E>;

template <class Acc>
struct Term {
  Vec<Acc> u, a, b;
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

constexpr std::size_t kAccumulators = 4;  // 4 cycles of latency of an addition, of which one or two issue per cycle
constexpr std::size_t kRounds = 4;        // Note [Narrow lanes widen early]

// How the sum of u runs. A planar chain in float lanes goes on for kLength rounds: what it keeps as lost is then itself
// off by less than 2^-34 of u (in rows, where it goes on for the tile, 2^-30), and of data far from 0 by nothing, as
// all of it are multiples of one ulp. More chains would not stay in the 16 registers of AVX2; in rows, other columns
// fill the waits. In float64 lanes, which keep nothing, it is as that of a * b.
template <class Acc>
struct Chains {
  static constexpr std::size_t kPlanar = 2, kRows = 1, kLength = 64;
};
template <>
struct Chains<double> {
  static constexpr std::size_t kPlanar = kAccumulators, kRows = kAccumulators, kLength = kRounds;
};

template <class V>
BATCHNORM_INLINE V Join(const V (&v)[2]) {
  return v[0] + v[1];
}
template <class V>
BATCHNORM_INLINE V Join(const V (&v)[4]) {
  return (v[0] + v[1]) + (v[2] + v[3]);
}
// The sum of chains that all began at `start`.
template <class Acc, bool kKeeps, std::size_t N>
BATCHNORM_INLINE auto Join(const ExactSum<Acc, kKeeps> (&u)[N], Vec<Acc> start) {
  decltype(u[0].Total(start)) totals[N];
  for (std::size_t k = 0; k < N; ++k) totals[k] = u[k].Total(start);
  return Join(totals);
}

// Planar: both sums over a channel's part of the tile. Chains go on from row to row, so that short rows cost what long
// ones do. What is left of a row is a round of its own, which as any other adds once at most to an accumulator.
template <class E, class Acc, class TermAt>
BATCHNORM_INLINE void ReduceTile(std::size_t rows, std::size_t cols, TermAt term, double* sum_u, double* sum_ab) {
  using Sum = ExactSum<Acc, kKeepsLost<E, Acc>>;
  constexpr std::size_t kStep = kAccumulators * kLanes<Acc>;
  constexpr bool kPairs = kInPairs<E> && sizeof(Acc) == sizeof(float);
  static_assert(Chains<Acc>::kLength % kRounds == 0);
  const Ahead ahead(term.input(), cols);
  const Vec<Acc> start = term.Start(0, All{});
  Sum chains[Chains<Acc>::kPlanar];
  for (Sum& chain : chains) chain.sum = start;
  Vec<Acc> s[kAccumulators] = {};
  std::size_t rounds = 0;
  WideSum u, ab;
  const auto add = [&](std::size_t r, std::size_t i, std::size_t k, auto lanes) {
    const Term<Acc> t = term(r, i, lanes);
    chains[k % Chains<Acc>::kPlanar].Add(t.u);
    s[k] = MulAdd(t.a, t.b, s[k]);
  };
  const auto widen = [&] {
    ab.Add(Join(s));
    for (Vec<Acc>& v : s) v = Vec<Acc>{};
  };
  const auto widen_chains = [&] {
    u.Add(Join(chains, start));
    for (Sum& chain : chains) chain = Sum{start};
  };
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t i = 0; i < cols;) {
      const std::size_t steps = Least((cols - i) / kStep, kRounds - rounds % kRounds);
      for (const std::size_t end = i + steps * kStep; i < end; i += kStep) {
        ahead.Prefetch<E>(term, r, i, kStep);
        for (std::size_t k = 0; k < kAccumulators; ++k) {
          const std::size_t at = i + k * kLanes<Acc>;
          if constexpr (kPairs) {
            k % 2 == 0 ? add(r, at, k, Evens{}) : add(r, at - kLanes<Acc>, k, Odds{});
          } else {
            add(r, at, k, All{});
          }
        }
      }
      rounds += steps;
      if (steps == 0) {
        constexpr std::size_t kLast = kAccumulators - 1;
        for (std::size_t k = 0; k < kLast && i + kLanes<Acc> <= cols; ++k, i += kLanes<Acc>) add(r, i, k, All{});
        if (i < cols) add(r, i, kLast, First{cols - i});
        i = cols;
        ++rounds;
      }
      if (rounds % kRounds == 0) widen();
      if (rounds % Chains<Acc>::kLength == 0) widen_chains();
    }
  }
  widen();
  widen_chains();
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

// A column's ExactSum rests in the memory of its float64 sum while the kernel goes through the other columns: a vector
// of sums, and after it one of what they lost.
BATCHNORM_INLINE std::size_t Count(All) { return kLanes<float>; }
BATCHNORM_INLINE std::size_t Count(First lanes) { return lanes.count; }

template <class Lanes>
BATCHNORM_INLINE void Resume(const double* sums, Lanes lanes, ExactSum<float, true>* u) {
  const float* p = reinterpret_cast<const float*>(sums);
  *u = {LoadAs<float>(p, lanes, F32{}), LoadAs<float>(p + Count(lanes), lanes, F32{})};
}
template <class Lanes>
BATCHNORM_INLINE void Rest(ExactSum<float, true> u, double* sums, Lanes lanes) {
  float* p = reinterpret_cast<float*>(sums);
  Store(u.sum, p, lanes);
  Store(u.lost, p + Count(lanes), lanes);
}
template <class Lanes>
BATCHNORM_INLINE void Resume(const double* sums, Lanes lanes, ExactSum<float, false>* u) {
  u->sum = LoadAs<float>(reinterpret_cast<const float*>(sums), lanes, F32{});
}
template <class Lanes>
BATCHNORM_INLINE void Rest(ExactSum<float, false> u, double* sums, Lanes lanes) {
  Store(u.sum, reinterpret_cast<float*>(sums), lanes);
}
// Then the sum takes its place.
template <bool kKeeps, class Lanes>
BATCHNORM_INLINE void Close(double* sums, Lanes lanes, F32 start) {
  ExactSum<float, kKeeps> u;
  Resume(sums, lanes, &u);
  const WideLanes total = u.Total(start);
  for (std::size_t i = 0; i < Count(lanes); ++i) sums[i] = 0;
  AddTo(sums, total, lanes);
}

// In float64 lanes a band begins at 0 and is added to the sum: additions to a sum that grows lose more.
template <class Lanes>
BATCHNORM_INLINE void Resume(const double*, Lanes, ExactSum<double, false>*) {}
template <class Lanes>
BATCHNORM_INLINE void Rest(ExactSum<double, false> u, double* sums, Lanes lanes) {
  AddTo(sums, u.sum, lanes);
}
template <bool kKeeps, class Lanes>
BATCHNORM_INLINE void Close(double*, Lanes, F64) {}

template <bool kKeeps>
BATCHNORM_INLINE ExactSum<float, kKeeps> JoinBand(const ExactSum<float, kKeeps> (&u)[1]) {
  return u[0];
}
BATCHNORM_INLINE ExactSum<double, false> JoinBand(const ExactSum<double, false> (&u)[4]) { return {Join(u, F64{})}; }

// A term for the columns of one vector: what belongs to them may be loaded once, in an overload.
template <class TermAt, class Lanes>
BATCHNORM_INLINE const TermAt& OfColumns(const TermAt& term, std::size_t, Lanes) {
  return term;
}

// Rows: both sums for every column, a band of rows at a time (Note [Bands]).
template <class E, class Acc, class TermAt>
BATCHNORM_INLINE void ReduceColumns(std::size_t rows, std::size_t cols, TermAt term, double* sum_u, double* sum_ab) {
  for (std::size_t j = 0; j < cols; ++j) sum_u[j] = sum_ab[j] = 0;
  // float64 lanes add a band to a growing sum, and lose less in few long ones.
  using Sum = ExactSum<Acc, kKeepsLost<E, Acc>>;
  constexpr bool kNarrow = sizeof(Acc) == sizeof(float);
  constexpr std::size_t kMostRows = kAccumulators * kRounds;
  // Narrow rows share no set before the eighth that lies kSetBytes further.
  const std::size_t apart = cols * sizeof(E) * kMostRows <= kBandLines * kSetBytes ? 2 : 1;
  constexpr std::size_t kRowsOfLines = kBandLines / TermAt::kInputs;
  constexpr std::size_t kLeast = kRowsOfLines < kAccumulators ? kAccumulators : kRowsOfLines;
  const std::size_t most = kNarrow ? apart * kLeast : kMostRows;
  for (std::size_t row = 0; row < rows; row += most) {
    const std::size_t band = Least(rows - row, most);
    ForEachVector<Acc>(cols, [&](std::size_t j, auto lanes) {
      Sum u[Chains<Acc>::kRows] = {};
      if (row == 0) {
        u[0].sum = term.Start(j, lanes);
      } else {
        Resume(sum_u + j, lanes, u);
      }
      Vec<Acc> s[kAccumulators] = {};
      const auto& of_columns = OfColumns(term, j, lanes);
      const auto add = [&](std::size_t r, std::size_t k) {
        const Term<Acc> t = of_columns(row + r, j, lanes);
        u[k % Chains<Acc>::kRows].Add(t.u);
        s[k] = MulAdd(t.a, t.b, s[k]);
      };
      std::size_t r = 0;
      const bool new_line = term.input().source == Source::kMemory && j % (kLineBytes / sizeof(E)) == 0;
      for (; r + kAccumulators <= band; r += kAccumulators) {
        for (std::size_t k = 0; new_line && k < kAccumulators; ++k) term.Prefetch(row + most + r + k, j);
        for (std::size_t k = 0; k < kAccumulators; ++k) add(r + k, k);
      }
      for (; r < band; ++r) add(r, 0);
      Rest(JoinBand(u), sum_u + j, lanes);
      AddTo(sum_ab + j, Join(s), lanes);
    });
  }
  ForEachVector<Acc>(
      cols, [&](std::size_t j, auto lanes) { Close<kKeepsLost<E, Acc>>(sum_u + j, lanes, term.Start(j, lanes)); });
}

// Another term, and what adds nothing where the mask is 0.
template <class TermAt, class E, class Acc>
struct MaskedTerm {
  static constexpr std::size_t kInputs = TermAt::kInputs + 1;
  TermAt term;
  MaskTile mask;
  template <class Lanes>
  BATCHNORM_INLINE Term<Acc> operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    const Vec<Flag<Acc>> counts = CountsAt<Acc>(mask, r, j);
    const Term<Acc> t = term(r, j, lanes);
    return {IfZero(counts, term.Neutral(j, lanes), t.u), IfZero(counts, Vec<Acc>{}, t.a),
            IfZero(counts, Vec<Acc>{}, t.b)};
  }
  template <class Lanes>
  BATCHNORM_INLINE Vec<Acc> Start(std::size_t j, Lanes lanes) const {
    return term.Start(j, lanes);
  }
  BATCHNORM_INLINE void SetChannel(std::size_t c) { term.SetChannel(c); }
  BATCHNORM_INLINE const Tile<const E>& input() const { return term.input(); }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const { term.Prefetch(r, j); }
};

// Planar: sums per channel; SetChannel(c) takes a term from one channel to the next. Rows: sums per column.
template <Walk W, class E, class Acc, class TermAt>
BATCHNORM_INLINE void ReduceTerm(std::size_t rows, std::size_t cols, TermAt term, double* sum_u, double* sum_ab) {
  if constexpr (W == Walk::kPlanar) {
    for (std::size_t c = 0;;) {
      ReduceTile<E, Acc>(rows, cols, term, sum_u + c, sum_ab + c);
      if (++c >= term.input().channels) return;
      term.SetChannel(c);
    }
  } else {
    ReduceColumns<E, Acc>(rows, cols, term, sum_u, sum_ab);
  }
}

template <Walk W, class E, class Acc, class TermAt>
BATCHNORM_INLINE void Reduce(std::size_t rows, std::size_t cols, MaskTile mask, TermAt term, double* sum_u,
                             double* sum_ab) {
  if constexpr (kHasMasks<E>) {
    if (mask.data != nullptr) {
      return ReduceTerm<W, E, Acc>(rows, cols, MaskedTerm<TermAt, E, Acc>{term, mask}, sum_u, sum_ab);
    }
  }
  ReduceTerm<W, E, Acc>(rows, cols, term, sum_u, sum_ab);
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
