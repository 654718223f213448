// Element types that C++ has no type for. Data only: every ISA object and the core share them.
#pragma once

#include <cstdint>

namespace batchnorm {

struct Float16 {  // IEEE 754 half precision
  std::uint16_t bits;
};

struct BFloat16 {  // the upper half of a float32
  std::uint16_t bits;
};

template <class E>
constexpr bool kHalfPrecision = false;
template <>
constexpr bool kHalfPrecision<Float16> = true;
template <>
constexpr bool kHalfPrecision<BFloat16> = true;

template <class E>
constexpr bool kByte = false;
template <>
constexpr bool kByte<std::uint8_t> = true;
template <>
constexpr bool kByte<std::int8_t> = true;

}  // namespace batchnorm
