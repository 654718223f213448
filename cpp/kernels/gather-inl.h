// Elements that a kernel can't read where they lie, from and to where it can: off alignment, apart, or of another type.
#pragma once

#include "kernels/access-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

template <class To, class From>
BATCHNORM_INLINE To Converted(From from) {
  if constexpr (sizeof(From) == sizeof(To)) {
    return BitsAs<To>(from);
  } else if constexpr (sizeof(From) < sizeof(To)) {
    return ToFloat(from);
  } else {
    To to;
    FromFloat(from, &to);
    return to;
  }
}

// Whether vectors of E are vectors of M.
template <class M, class E>
constexpr bool kAlike = sizeof(M) == sizeof(Lane<M>) && sizeof(M) == sizeof(E);

// Vectors of what follows each other in memory, as many as there are whole ones of; returns how many elements.
template <class M, class E>
BATCHNORM_INLINE std::size_t GatherRun(const char* from, std::size_t n, E* to) {
  constexpr bool kHalf = kHalfPrecision<M>;
  std::size_t i = 0;
  if constexpr (kAlike<M, E>) {
    for (; i + kLanes<E> <= n; i += kLanes<E>) Store(LoadUnaligned<E>(from + i * sizeof(E)), to + i, All{});
  } else if constexpr (kHalf && sizeof(E) == sizeof(float)) {
    for (; i + kLanes<E> <= n; i += kLanes<E>) {
      Store(LoadF32(reinterpret_cast<const M*>(from + i * sizeof(M)), All{}), to + i, All{});
    }
  }
  return i;
}

// Every second element of aligned rows of n > 0. Nothing beyond the last of a row is touched.
template <class E>
struct EverySecond {
  std::size_t n;

  BATCHNORM_INLINE void operator()(const char* row, E* to) const {
    const E* from = reinterpret_cast<const E*>(row);
    std::size_t rest = n;
    for (; rest > kLanes<E>; rest -= kLanes<E>, from += 2 * kLanes<E>, to += kLanes<E>) {
      Store(ConcatEven(Load(from + kLanes<E>, All{}), Load(from, All{})), to, All{});
    }
    const std::size_t reach = 2 * rest - 1;
    if (reach < kLanes<E>) return Store(ConcatEven(Vec<E>{}, Load(from, First{reach})), to, First{rest});
    const Vec<E> last = ConcatEven(Load(from + kLanes<E>, First{reach - kLanes<E>}), Load(from, All{}));
    rest < kLanes<E> ? Store(last, to, First{rest}) : Store(last, to, All{});
  }
};

// Calls row(from, to) for each row. Asks for the lines that lie `ahead` bytes further on (Note [Prefetch]).
template <class E, class Row>
BATCHNORM_INLINE void EachRow(const char* from, const StridedRows& in, std::ptrdiff_t ahead, E* to, Row row) {
  constexpr std::ptrdiff_t kLine = kLineBytes;
  // Of what is sparser no prefetcher keeps track, and most of a line is wasted.
  const std::ptrdiff_t bytes = 0 < in.stride && in.stride < kLine ? static_cast<std::ptrdiff_t>(in.n) * in.stride : 0;
  for (std::size_t r = 0; r < in.rows; ++r, from += in.row_stride, to += in.n) {
    const std::uintptr_t next = reinterpret_cast<std::uintptr_t>(from) + static_cast<std::uintptr_t>(ahead);
    for (std::ptrdiff_t i = 0; i < bytes; i += kLine) Prefetch(next + static_cast<std::uintptr_t>(i));
    row(from, to);
  }
}

// Ms as Es. No alignment needed; no overlap.
template <class M, class E>
void Gather(const char* from, const StridedRows& in, std::ptrdiff_t ahead, E* to) {
  constexpr std::ptrdiff_t kItem = sizeof(M);
  const std::size_t n = in.n;
  const std::ptrdiff_t stride = in.stride;
  if (stride == kItem) {
    return EachRow(from, in, ahead, to, [n](const char* p, E* row) {
      std::size_t i = GatherRun<M>(p, n, row);
      for (; i < n; ++i) row[i] = Converted<E>(LoadOne<M>(p + i * sizeof(M)));  // of integers a loop for the compiler
    });
  }
  if (stride == 0) {
    return EachRow(from, in, ahead, to, [n](const char* p, E* row) {
      const E e = Converted<E>(LoadOne<M>(p));
      for (std::size_t i = 0; i < n; ++i) row[i] = e;
    });
  }
  if constexpr (kAlike<M, E>) {
    const std::uintptr_t misaligned =
        (reinterpret_cast<std::uintptr_t>(from) | static_cast<std::uintptr_t>(in.row_stride)) % sizeof(E);
    if (stride == 2 * kItem && misaligned == 0 && n > 0) return EachRow(from, in, ahead, to, EverySecond<E>{n});
  }
  EachRow(from, in, ahead, to, [n, stride](const char* p, E* row) {
    for (std::size_t i = 0; i < n; ++i, p += stride) row[i] = Converted<E>(LoadOne<M>(p));
  });
}

template <class M, class E>
BATCHNORM_INLINE void ScatterRow(const E* from, std::size_t n, char* to, std::ptrdiff_t stride) {
  constexpr std::ptrdiff_t kItem = sizeof(M);
  std::size_t i = 0;
  if constexpr (kHalfPrecision<M> && sizeof(E) == sizeof(float)) {
    if (stride == kItem) {
      for (; i + kLanes<E> <= n; i += kLanes<E>, to += kLanes<E> * sizeof(M)) {
        Store(ShortNaNs(Load(from + i, All{})), reinterpret_cast<M*>(to), All{});
      }
    }
  }
  if (stride == kItem) {
    for (; i < n; ++i, to += kItem) StoreOne(Converted<M>(from[i]), to);
  } else {
    for (; i < n; ++i, to += stride) StoreOne(Converted<M>(from[i]), to);
  }
}

// The other way.
template <class M, class E>
void Scatter(const E* from, char* to, const StridedRows& out) {
  for (std::size_t r = 0; r < out.rows; ++r, from += out.n, to += out.row_stride) {
    ScatterRow<M>(from, out.n, to, out.stride);
  }
}

// Signs (DType::kSign): 1 and -1 of their bits, bytes at a time where they follow each other.
BATCHNORM_INLINE std::uint8_t* ByteOf(std::uintptr_t bit) { return reinterpret_cast<std::uint8_t*>(bit / 8); }

BATCHNORM_INLINE std::size_t ToByte(std::uintptr_t bit, std::size_t n) {
  return Least(n, static_cast<std::size_t>(-bit % 8));
}

template <class E>
BATCHNORM_INLINE E SignAs(std::int32_t sign) {
  return Converted<E>(static_cast<Lane<E>>(sign));
}
// NaN counts as positive.
template <class E>
BATCHNORM_INLINE bool IsPositive(E v) {
  return !(Converted<Lane<E>>(v) <= 0);
}

template <class E>
BATCHNORM_INLINE void GatherRowOfSigns(std::uintptr_t bit, std::ptrdiff_t stride, std::size_t n, E* to) {
  std::size_t i = 0;
  const auto one_by_one = [&](std::size_t end) {
    for (; i < end; ++i, bit += static_cast<std::uintptr_t>(stride)) {
      to[i] = SignAs<E>((*ByteOf(bit) >> bit % 8 & 1) * 2 - 1);
    }
  };
  if (stride == 1) {
    one_by_one(ToByte(bit, n));
    for (; i + 8 <= n; i += 8, bit += 8) {
      const std::int32_t byte = *ByteOf(bit);
      std::int32_t signs[8];
      for (std::int32_t k = 0; k < 8; ++k) signs[k] = (byte >> k & 1) * 2 - 1;
      for (std::size_t k = 0; k < 8; ++k) to[i + k] = SignAs<E>(signs[k]);
    }
  }
  one_by_one(n);
}

template <class E>
void GatherSigns(const char* from, const StridedRows& in, std::ptrdiff_t, E* to) {
  for (std::size_t r = 0; r < in.rows; ++r, from += in.row_stride, to += in.n) {
    GatherRowOfSigns(reinterpret_cast<std::uintptr_t>(from), in.stride, in.n, to);
  }
}

// Whole bytes of a run are its own; others it shares with its neighbours.
template <class E>
BATCHNORM_INLINE void ScatterRowOfSigns(const E* from, std::size_t n, std::uintptr_t bit, std::ptrdiff_t stride) {
  std::size_t i = 0;
  const auto one_by_one = [&](std::size_t end) {
    for (; i < end; ++i, bit += static_cast<std::uintptr_t>(stride)) {
      SetBits(ByteOf(bit), (IsPositive(from[i]) ? 1u : 0u) << bit % 8);
    }
  };
  if (stride == 1) {
    one_by_one(ToByte(bit, n));
    for (; i + 8 <= n; i += 8, bit += 8) {
      std::int32_t byte = 0;
      for (std::int32_t k = 0; k < 8; ++k) byte |= (IsPositive(from[i + static_cast<std::size_t>(k)]) ? 1 : 0) << k;
      *ByteOf(bit) = static_cast<std::uint8_t>(byte);
    }
  }
  one_by_one(n);
}

template <class E>
void ScatterSigns(const E* from, char* to, const StridedRows& out) {
  for (std::size_t r = 0; r < out.rows; ++r, from += out.n, to += out.row_stride) {
    ScatterRowOfSigns(from, out.n, reinterpret_cast<std::uintptr_t>(to), out.stride);
  }
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
