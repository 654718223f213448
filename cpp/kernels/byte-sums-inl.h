// Sums of bytes and of their squares, exact.
#pragma once

#include "kernels/access-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

// Lanes of 16 bits, of which a vector has twice as many as of those that hold a sum of squares: they take squares
// modulo 2^16, and the upper bytes of squares, whose sum tells how often the other one has wrapped.
struct ByteChain {
  static constexpr std::size_t kLongest = 256;  // 256 * 255 < 2^16, and 256 * -128 = -2^15
  Words sum{}, square{}, upper{};

  BATCHNORM_INLINE void Add(Words v) {
    const Words squared = v * v;
    sum += v;
    square += squared;
    upper += squared >> 8;
  }
};

// The sums of a chain of E, lane by lane.
template <class E>
struct ByteSums {
  static constexpr std::size_t kCount = kLanes<std::uint16_t>;
  std::int32_t sum[kCount], square[kCount];

  explicit BATCHNORM_INLINE ByteSums(const ByteChain& chain) {
    struct Lanes {
      std::uint16_t at[kCount];
    };
    const Lanes first = BitsAs<Lanes>(chain.sum), second = BitsAs<Lanes>(chain.square);
    const Lanes upper = BitsAs<Lanes>(chain.upper);
    for (std::size_t i = 0; i < kCount; ++i) {
      const std::int32_t whole = upper.at[i] << 8;
      sum[i] = E(-1) < E(0) ? static_cast<std::int16_t>(first.at[i]) : first.at[i];
      square[i] = whole + static_cast<std::uint16_t>(second.at[i] - whole);
    }
  }
};

// *sum += the sum over all lanes, *sum2 += that of the squares.
template <class E>
BATCHNORM_INLINE void AddTotals(const ByteChain& chain, double* sum, double* sum2) {
  const ByteSums<E> sums(chain);
  std::int32_t total = 0, squares = 0;  // 32 * 256 squares are below 2^31
  for (std::size_t i = 0; i < ByteSums<E>::kCount; ++i) {
    total += sums.sum[i];
    squares += sums.square[i];
  }
  *sum += total;
  *sum2 += squares;
}

// Planar: over a channel's part of the tile. The chain goes on from row to row, so that short rows cost what long ones
// do.
template <class E>
BATCHNORM_INLINE void SumBytesOfTile(const Tile<const E>& x, double* sum, double* sum2) {
  constexpr std::size_t kEach = kLanes<std::uint16_t>, kVectors = 4, kStep = kVectors * kEach;
  static_assert(ByteChain::kLongest % kVectors == 0);
  struct At {
    const Tile<const E>& x;
    BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const { PrefetchAt(x, r, j); }
  };
  const Ahead ahead(x, x.cols);
  ByteChain chain;
  std::size_t length = 0;  // with room for a step, or for what is left of a row
  *sum = *sum2 = 0;
  for (std::size_t r = 0; r < x.rows; ++r) {
    for (std::size_t j = 0; j < x.cols;) {
      const std::size_t steps = Least((x.cols - j) / kStep, (ByteChain::kLongest - length) / kVectors);
      for (const std::size_t end = j + steps * kStep; j < end; j += kStep) {
        ahead.Prefetch<E>(At{x}, r, j, kStep);
        for (std::size_t k = 0; k < kVectors; ++k) chain.Add(LoadWords(Row(x, r) + j + k * kEach, All{}));
      }
      length += kVectors * steps;
      if (steps == 0) {
        ForEachVector<std::uint16_t>(j, x.cols,
                                     [&](std::size_t i, auto lanes) { chain.Add(LoadWords(Row(x, r) + i, lanes)); });
        j = x.cols;
        length += kVectors;
      }
      if (length + kVectors > ByteChain::kLongest) {
        AddTotals<E>(chain, sum, sum2);
        chain = {};
        length = 0;
      }
    }
  }
  AddTotals<E>(chain, sum, sum2);
}

constexpr std::size_t kStrip = 256;  // columns whose chains rest in L1 from one band of rows to the next
constexpr std::size_t kBandRows = 16;

// Rows: a strip of columns, a band of rows at a time (Note [Bands]), at most as many as a chain takes. Asks for the
// rows that lie `ahead` further on.
template <class E>
BATCHNORM_INLINE void AddStrip(const Tile<const E>& x, std::size_t ahead, double* sum, double* sum2) {
  constexpr std::size_t kEach = kLanes<std::uint16_t>;
  ByteChain chains[kStrip / kEach] = {};
  for (std::size_t row = 0; row < x.rows; row += kBandRows) {
    const std::size_t end = Least(row + kBandRows, x.rows);
    ForEachVector<std::uint16_t>(x.cols, [&](std::size_t j, auto lanes) {
      ByteChain chain = chains[j / kEach];
      const bool new_line = x.source == Source::kMemory && j % kLineBytes == 0;
      for (std::size_t r = row; r < end; ++r) {
        if (new_line) PrefetchAt(x, r + ahead, j);
        chain.Add(LoadWords(Row(x, r) + j, lanes));
      }
      chains[j / kEach] = chain;
    });
  }
  for (std::size_t j = 0; j < x.cols; j += kEach) {
    const ByteSums<E> sums(chains[j / kEach]);
    for (std::size_t i = 0; i < Least(x.cols - j, kEach); ++i) {
      sum[j + i] += sums.sum[i];
      sum2[j + i] += sums.square[i];
    }
  }
}

// Rows: of every column.
template <class E>
BATCHNORM_INLINE void SumBytesOfColumns(const Tile<const E>& x, double* sum, double* sum2) {
  for (std::size_t j = 0; j < x.cols; ++j) sum[j] = sum2[j] = 0;
  for (std::size_t j = 0; j < x.cols; j += kStrip) {
    for (std::size_t r = 0; r < x.rows; r += ByteChain::kLongest) {
      Tile<const E> strip = x;
      strip.data = Row(x, r) + j;
      strip.rows = Least(x.rows - r, ByteChain::kLongest);
      strip.cols = Least(x.cols - j, kStrip);
      AddStrip(strip, kBandRows + kAheadBytes / x.cols, sum + j, sum2 + j);
    }
  }
}

// sum = sum of x, sum2 = sum of x^2
template <Walk W, class E>
void SumBytes(Tile<const E> x, double* sum, double* sum2) {
  if constexpr (W == Walk::kPlanar) {
    for (std::size_t c = 0; c < x.channels; ++c, ToNextChannel(x)) SumBytesOfTile(x, sum + c, sum2 + c);
  } else {
    SumBytesOfColumns(x, sum, sum2);
  }
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
