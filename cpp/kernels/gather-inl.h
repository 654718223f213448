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

// Vectors of what follows each other in memory, as many as there are whole ones of; returns how many elements.
template <class M, class E>
BATCHNORM_INLINE std::size_t GatherRun(const char* from, std::size_t n, E* to) {
  constexpr bool kPlain = sizeof(M) == sizeof(Lane<M>) && sizeof(M) == sizeof(E), kHalf = kHalfPrecision<M>;
  std::size_t i = 0;
  if constexpr (kPlain) {
    for (; i + kLanes<E> <= n; i += kLanes<E>) Store(LoadUnaligned<E>(from + i * sizeof(E)), to + i, All{});
  } else if constexpr (kHalf && sizeof(E) == sizeof(float)) {
    for (; i + kLanes<E> <= n; i += kLanes<E>) {
      Store(LoadF32(reinterpret_cast<const M*>(from + i * sizeof(M)), All{}), to + i, All{});
    }
  }
  return i;
}

// Of every second one; reads an element beyond the last that it takes.
template <class M, class E>
BATCHNORM_INLINE std::size_t GatherEverySecond(const char* from, std::size_t n, E* to) {
  std::size_t i = 0;
  if constexpr (sizeof(M) == sizeof(Lane<M>) && sizeof(M) == sizeof(E)) {
    constexpr std::size_t kVector = kLanes<E> * sizeof(E);
    for (; i + kLanes<E> < n; i += kLanes<E>, from += 2 * kVector) {
      const Vec<E> lower = LoadUnaligned<E>(from), upper = LoadUnaligned<E>(from + kVector);
      Store(ConcatEven(upper, lower), to + i, All{});
    }
  }
  return i;
}

// to[i] = the M that lies i * stride bytes from `from`, as an E. No alignment needed; no overlap. Asks for the lines
// that lie `ahead` bytes further on (Note [Prefetch]).
template <class M, class E>
void Gather(const char* from, std::ptrdiff_t stride, std::ptrdiff_t ahead, std::size_t n, E* to) {
  constexpr std::ptrdiff_t kItem = sizeof(M), kLine = kLineBytes;
  const std::ptrdiff_t bytes = static_cast<std::ptrdiff_t>(n) * stride;
  if (0 < stride && stride < kLine) {  // of what is sparser no prefetcher keeps track, and most of a line is wasted
    const std::uintptr_t next = reinterpret_cast<std::uintptr_t>(from) + static_cast<std::uintptr_t>(ahead);
    for (std::ptrdiff_t i = 0; i < bytes; i += kLine) Prefetch(next + static_cast<std::uintptr_t>(i));
  }
  std::size_t i = 0;
  if (stride == kItem) {
    i = GatherRun<M>(from, n, to);
    for (; i < n; ++i) to[i] = Converted<E>(LoadOne<M>(from + i * sizeof(M)));  // of integers a loop for the compiler
    return;
  }
  if (stride == 0) {
    const E e = Converted<E>(LoadOne<M>(from));
    for (; i < n; ++i) to[i] = e;
    return;
  }
  if (stride == 2 * kItem) i = GatherEverySecond<M>(from, n, to);
  from += static_cast<std::ptrdiff_t>(i) * stride;
  for (; i < n; ++i, from += stride) to[i] = Converted<E>(LoadOne<M>(from));
}

// The other way.
template <class M, class E>
void Scatter(const E* from, std::size_t n, char* to, std::ptrdiff_t stride) {
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

// 1 and 0 of bools.
template <class E>
void GatherBools(const char* from, std::ptrdiff_t stride, std::ptrdiff_t, std::size_t n, E* to) {
  const E one = Converted<E>(Lane<E>{1}), zero = Converted<E>(Lane<E>{0});
  std::size_t i = 0;
  if (stride == 0) {
    const E e = *from != 0 ? one : zero;
    for (; i < n; ++i) to[i] = e;
  } else if (stride == 1) {
    for (; i < n; ++i) to[i] = from[i] != 0 ? one : zero;
  } else {
    for (; i < n; ++i, from += stride) to[i] = *from != 0 ? one : zero;
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
void GatherSigns(const char* from, std::ptrdiff_t stride, std::ptrdiff_t, std::size_t n, E* to) {
  std::uintptr_t bit = reinterpret_cast<std::uintptr_t>(from);
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

// Whole bytes of a run are its own; others it shares with its neighbours.
template <class E>
void ScatterSigns(const E* from, std::size_t n, char* to, std::ptrdiff_t stride) {
  std::uintptr_t bit = reinterpret_cast<std::uintptr_t>(to);
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

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
