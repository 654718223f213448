// What every vector type shares: inlining, and which lanes an operation touches.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(_MSC_VER)
#include <intrin.h>
#endif

#if defined(__GNUC__)
#define BATCHNORM_INLINE inline __attribute__((always_inline))
#else
#define BATCHNORM_INLINE inline
#endif

namespace batchnorm::BATCHNORM_ISA {
namespace {

struct All {};  // every lane

// Of the elements of two vectors, the first and every second one after it, or the others: in place of a run, where that
// is cheaper to read and write (kInPairs) and order doesn't matter.
struct Evens {};
struct Odds {};

struct First {  // lanes 0 .. count - 1, 0 < count < Lanes
  std::size_t count;
};

// The integer of the size of a lane of T, which tells whether something counts there: not where it is 0.
template <class T>
struct FlagOf {
  using Type = std::uint32_t;
};
template <>
struct FlagOf<double> {
  using Type = std::uint64_t;
};
template <class T>
using Flag = typename FlagOf<T>::Type;

// The bits of a value as another type. Floats may rest in memory of doubles, which compilers that reason about types
// must not see as their access: hence by bytes.
template <class To, class From>
BATCHNORM_INLINE To BitsAs(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
#if defined(__GNUC__)
  __builtin_memcpy(&to, &from, sizeof to);
#else
  for (std::size_t i = 0; i < sizeof to; ++i) {
    reinterpret_cast<char*>(&to)[i] = reinterpret_cast<const char*>(&from)[i];
  }
#endif
  return to;
}

// One element, wherever it lies.
template <class E>
BATCHNORM_INLINE E LoadOne(const char* p) {
  struct Bytes {
    char bytes[sizeof(E)];
  };
  return BitsAs<E>(*reinterpret_cast<const Bytes*>(p));
}
template <class E>
BATCHNORM_INLINE void StoreOne(E e, char* p) {
  struct Bytes {
    char bytes[sizeof(E)];
  };
  *reinterpret_cast<Bytes*>(p) = BitsAs<Bytes>(e);
}

// Sets bits of a byte that other threads may set bits of.
BATCHNORM_INLINE void SetBits(std::uint8_t* byte, unsigned bits) {
#if defined(__GNUC__)
  __atomic_fetch_or(byte, static_cast<std::uint8_t>(bits), __ATOMIC_RELAXED);
#else
  _InterlockedOr8(reinterpret_cast<char*>(byte), static_cast<char>(bits));
#endif
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
