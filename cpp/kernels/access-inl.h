// How a kernel reaches its operands: rows of tiles, and parameters that are one value or one per column.
#pragma once

#include "dispatch/kernel_table.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

template <class E>
BATCHNORM_INLINE E* Row(const Tile<E>& tile, std::size_t row) {
  return tile.data + static_cast<std::ptrdiff_t>(row) * tile.stride;
}

// The tile of the next channel, in the place of this one.
template <class E>
BATCHNORM_INLINE void ToNextChannel(Tile<E>& tile) {
  tile.data += tile.channel_stride;
}

BATCHNORM_INLINE std::size_t Least(std::size_t a, std::size_t b) { return a < b ? a : b; }

// Whether a row begins where the one before ends.
template <class E>
BATCHNORM_INLINE bool RowsTouch(const Tile<E>& tile) {
  return tile.stride == static_cast<std::ptrdiff_t>(tile.cols);
}

// Note [Prefetch]: a core's own prefetcher stops at every page and needs some lines to start anew, so that sums from
// memory run at 14 GB/s where lines asked for 8 to 16 KB ahead give 24 (and 2 KB ahead 16). In cache asking takes up to
// a fifth of the time. Beyond its last row a tile is taken to go on at the same stride, which is where the next one
// mostly begins; a wrong guess costs a line.
//
// Plain stores wait for their lines, too. So near that most of them are still of the same tile is far enough: on
// Cascade Lake, whose cores then copy 160 MB in 13.2 instead of 15.3 ms, from 256 bytes to 4 KB ahead make no
// difference.
constexpr std::size_t kAheadBytes = 16384, kAheadOfStores = 1024;
constexpr std::size_t kLineBytes = 64;

template <class E>
BATCHNORM_INLINE void PrefetchAt(const Tile<E>& tile, std::size_t row, std::size_t col) {
  const std::size_t stride = static_cast<std::size_t>(tile.stride);
  Prefetch(reinterpret_cast<std::uintptr_t>(tile.data) + (row * stride + col) * sizeof(E));
}

// Where a kernel asks for lines while it is at an element of a tile with rows of `cols`: `bytes` further if the tile is
// in memory, or about as far in another channel if the tile has several; at tile.next if other values come
// next; nowhere if it is streamed. A second input is taken to lie alike; if not, a hint is lost.
class Ahead {
 public:
  template <class E>
  BATCHNORM_INLINE Ahead(const Tile<E>& tile, std::size_t cols, std::size_t bytes = kAheadBytes)
      : on_(tile.source != Source::kCache && tile.store == StoreKind::kPlain && cols > 0), cols_(cols) {
    if (!on_) return;  // divisions take as long as a short row
    const std::size_t elements = bytes / sizeof(E);
    if (tile.source == Source::kNext) {
      GoTo(tile.next / static_cast<std::ptrdiff_t>(sizeof(E)));
      return;
    }
    if (tile.channels > 1) {
      GoTo(static_cast<std::ptrdiff_t>(elements / (tile.rows * cols) + 1) * tile.channel_stride);
      return;
    }
    rows_ = elements / cols;
    rest_ = elements - rows_ * cols;
  }

  // Asks for the lines of `count` elements of E, while `at` reads those from (row, col) on.
  template <class E, class At>
  BATCHNORM_INLINE void Prefetch(const At& at, std::size_t row, std::size_t col, std::size_t count) const {
    if (!on_) return;
    row += rows_;
    col += rest_;
    if (col >= cols_) {
      col -= cols_;
      ++row;
    }
    for (std::size_t i = 0; i < count; i += kLineBytes / sizeof(E)) at.Prefetch(row, col + i);
  }

 private:
  // So many elements further, whatever the row.
  BATCHNORM_INLINE void GoTo(std::ptrdiff_t elements) {
    cols_ = static_cast<std::size_t>(-1);
    rows_ = 0;
    rest_ = static_cast<std::size_t>(elements);
  }

  bool on_;
  std::size_t cols_, rows_ = 0, rest_ = 0;
};

// Note [Bands]: where columns have their own parameters or sums, a kernel takes some rows at a time and goes along the
// columns, so that what belongs to a column is loaded once for all of them. Rows that lie a power of two apart share
// one set of L1, which holds 8 lines on the smallest of today's cores; all lines that are worked on at a time fit
// there. More are also more than a prefetcher follows.
constexpr std::size_t kBandLines = 8;
constexpr std::size_t kSetBytes = 4096;  // lines so far apart share a set

// kLanes<Acc> elements of E, as a vector of Acc. Lanes that aren't touched take `fill`.
template <class Acc, class E, class Lanes>
BATCHNORM_INLINE Vec<Acc> LoadAs(const E* p, Lanes lanes, Vec<Acc> fill) {
  constexpr bool kAll = sizeof(Lanes) == sizeof(All);
  if constexpr ((kHalfPrecision<E> || kByte<E>) && sizeof(Acc) == sizeof(float)) {
    if constexpr (kAll) {
      return LoadF32(p, lanes);
    } else {
      return LoadF32(p, lanes, fill);
    }
  } else if constexpr (kHalfPrecision<E>) {
    if constexpr (kAll) {
      return PromoteLowerTo(LoadLowerF32(p));
    } else {
      return Select(lanes, PromoteLowerTo(LoadF32(p, lanes, F32{})), fill);
    }
  } else if constexpr (sizeof(Acc) == sizeof(E)) {
    if constexpr (kAll) {
      return Load(p, lanes);
    } else {
      return Load(p, lanes, fill);
    }
  } else if constexpr (kAll) {
    return LoadF64(p, lanes);
  } else {
    return LoadF64(p, lanes, fill);
  }
}

// Of other types there are no kernels with a mask.
template <class E>
constexpr bool kHasMasks = sizeof(E) == sizeof(Lane<E>);

// What a mask says at a place, for lanes of Acc.
template <class Acc>
BATCHNORM_INLINE Vec<Flag<Acc>> CountsAt(const MaskTile& mask, std::size_t row, std::size_t col) {
  if (mask.cols == 1) return Set<Flag<Acc>>(*Row(mask, row));
  return LoadFlags<Acc>(Row(mask, row) + col);
}

// Zero in lanes that aren't touched.
template <class Lanes, class V>
BATCHNORM_INLINE V OnlyFirst(Lanes, V v) {
  return v;
}
template <class V>
BATCHNORM_INLINE V OnlyFirst(First lanes, V v) {
  return Select(lanes, v, V{});
}

// Elements from p to the next vector boundary.
template <class E>
BATCHNORM_INLINE std::size_t ToAlignment(const E* p) {
  constexpr std::size_t kBytes = kLanes<Lane<E>> * sizeof(E);
  return (kBytes - reinterpret_cast<std::uintptr_t>(p) % kBytes) % kBytes / sizeof(E);
}

// The same for all rows of a tile, if they agree; else 0.
template <class E>
BATCHNORM_INLINE std::size_t RowsToAlignment(const Tile<E>& tile) {
  constexpr std::ptrdiff_t kElements = kLanes<Lane<E>>;
  return tile.stride % kElements == 0 ? ToAlignment(tile.data) : 0;
}

// Calls body(j, lanes) for the vectors of the columns from j to end.
template <class Acc, class Body>
BATCHNORM_INLINE void ForEachVector(std::size_t j, std::size_t end, Body body) {
  for (; j + kLanes<Acc> <= end; j += kLanes<Acc>) body(j, All{});
  if (j < end) body(j, First{end - j});
}
template <class Acc, class Body>
BATCHNORM_INLINE void ForEachVector(std::size_t cols, Body body) {
  ForEachVector<Acc>(0, cols, body);
}

template <Walk W, class T, class Acc = T>
class Parameter;

template <class T, class Acc>
class Parameter<Walk::kPlanar, T, Acc> {
 public:
  // The same value everywhere.
  explicit BATCHNORM_INLINE Parameter(Vec<Acc> value) : rows_(nullptr), value_(value) {}
  // Null where the kernel doesn't read it.
  explicit BATCHNORM_INLINE Parameter(const T* p) : rows_(p), value_{} {
    if (p != nullptr) SetRow(0);
  }
  // What At gives from now on, where there is one value per row.
  BATCHNORM_INLINE void SetRow(std::size_t row) { value_ = Set<Acc>(static_cast<Acc>(rows_[row])); }
  template <class Lanes>
  BATCHNORM_INLINE Vec<Acc> At(std::size_t, Lanes) const {
    return value_;
  }

 private:
  const T* rows_;
  Vec<Acc> value_;
};

template <class T, class Acc>
class Parameter<Walk::kRows, T, Acc> {
 public:
  explicit BATCHNORM_INLINE Parameter(const T* p) : columns_(p) {}
  BATCHNORM_INLINE void SetRow(std::size_t) {}
  template <class Lanes>
  BATCHNORM_INLINE Vec<Acc> At(std::size_t column, Lanes lanes) const {
    return LoadAs<Acc>(columns_ + column, lanes, Vec<Acc>{});
  }

 private:
  const T* columns_;
};

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
