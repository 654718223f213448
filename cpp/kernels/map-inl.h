// Writing a tile, element by element, from a map that gives the value at a place.
#pragma once

#include "kernels/access-inl.h"

namespace batchnorm::BATCHNORM_ISA {
namespace {

template <class E, class V>
BATCHNORM_INLINE void StoreWhole(StoreKind store, V v, E* p) {
  if (store == StoreKind::kStream) {
    Stream(v, p);
  } else {
    Store(v, p, All{});
  }
}

// Two vectors of a map's values. In rows every column has parameters of its own, in their order.
template <Walk W, class E, class MapAt>
BATCHNORM_INLINE auto MapTwo(const MapAt& map, std::size_t r, std::size_t j) {
  if constexpr (W == Walk::kPlanar && kInPairs<E>) {
    return PackPairs(map(r, j, Evens{}), map(r, j, Odds{}));
  } else {
    return PackRun(map(r, j, All{}), map(r, j + kLanes<float>, All{}), E{});
  }
}

// Asks for the lines that a map reads, and for those that it stores into plainly.
template <class E, class MapAt>
class MapAhead {
 public:
  BATCHNORM_INLINE MapAhead(const MapAt& map, const Tile<E>& y)
      : map_(map), y_{y}, of_inputs_(map.input(), y.cols), of_output_(y, y.cols, kAheadOfStores) {}
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j, std::size_t count) const {
    of_inputs_.template Prefetch<E>(map_, r, j, count);
    of_output_.template Prefetch<E>(y_, r, j, count);
  }

 private:
  struct Output {
    const Tile<E>& tile;
    BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const { PrefetchAt(tile, r, j); }
  };

  const MapAt& map_;
  const Output y_;
  const Ahead of_inputs_, of_output_;
};

// y[r, j .. end) = map, in whole lines; returns where they end.
template <Walk W, StoreKind S, class E, class MapAt>
BATCHNORM_INLINE std::size_t MapLines(E* row, std::size_t r, std::size_t j, std::size_t end,
                                      const MapAhead<E, MapAt>& ahead, const MapAt& map) {
  using T = Lane<E>;
  constexpr std::size_t kStep = 16 / sizeof(E) * kLanes<T>;  // a cache line or more
  // Stored plainly a run is as fast vector by vector.
  constexpr bool kTwo = kPacks<E> && (S == StoreKind::kStream || (W == Walk::kPlanar && kInPairs<E>));
  if (kTwo && j + kLanes<T> <= end && reinterpret_cast<std::uintptr_t>(row + j) % (kLanes<T> * sizeof(T)) != 0) {
    StoreWhole(S, map(r, j, All{}), row + j);
    j += kLanes<T>;
  }
  for (; j + kStep <= end; j += kStep) {
    ahead.Prefetch(r, j, kStep);
    if constexpr (kTwo) {
      for (std::size_t i = j; i < j + kStep; i += 2 * kLanes<T>) StoreWhole(S, MapTwo<W, E>(map, r, i), row + i);
    } else {
      for (std::size_t i = j; i < j + kStep; i += kLanes<T>) StoreWhole(S, map(r, i, All{}), row + i);
    }
  }
  return j;
}

// The same in whole vectors.
template <Walk W, class E, class MapAt>
BATCHNORM_INLINE std::size_t MapRow(StoreKind store, E* row, std::size_t r, std::size_t j, std::size_t end,
                                    const MapAhead<E, MapAt>& ahead, const MapAt& map) {
  j = store == StoreKind::kStream ? MapLines<W, StoreKind::kStream>(row, r, j, end, ahead, map)
                                  : MapLines<W, StoreKind::kPlain>(row, r, j, end, ahead, map);
  ahead.Prefetch(r, j, end - j);
  for (; j + kLanes<Lane<E>> <= end; j += kLanes<Lane<E>>) StoreWhole(store, map(r, j, All{}), row + j);
  return j;
}

// y[r, j] = map(r, j). A value doesn't depend on where it lies: head, body and tail are the same operations. Streaming
// stores are in order with what follows after a StreamFence, which is left to the caller: one per task, not per tile.
//
// Note [Straddling rows]: a line that is streamed in part and stored in part costs more than ten whole ones. Where rows
// touch, vectors are therefore aligned once, and the last of a row reaches into the next: parameters per column begin
// anew after their end (kMostLanes) for it, parameters per row are those of both rows in turn.
template <Walk W, class E, class MapAt>
BATCHNORM_INLINE void MapRows(Tile<E> y, MapAt map) {
  using T = Lane<E>;
  static_assert(kLanes<T> <= kMostLanes);
  const MapAhead<E, MapAt> ahead(map, y);
  const bool straddle = map.Touching() && RowsTouch(y) && y.cols >= kLanes<T>;
  std::size_t j = 0;
  for (std::size_t r = 0; r < y.rows; ++r) {
    E* row = Row(y, r);
    if (map.rows == PlanarRows::kChannels) map.SetRow(r);
    if (j == 0) {
      const std::size_t head = ToAlignment(row);
      if (0 < head && head <= y.cols) {
        Store(map(r, j, First{head}), row, First{head});
        j = head;
      }
    }
    j = MapRow<W>(y.store, row, r, j, y.cols, ahead, map);
    if (j == y.cols) {
      j = 0;
    } else if (straddle && r + 1 < y.rows) {
      Vec<T> v = map(r, j, All{});
      if (map.rows == PlanarRows::kChannels) {
        map.SetRow(r + 1);
        v = Select(First{y.cols - j}, v, map(r, j, All{}));
      }
      StoreWhole(y.store, v, row + j);
      j += kLanes<T> - y.cols;
    } else {
      Store(map(r, j, First{y.cols - j}), row + j, First{y.cols - j});
      j = 0;
    }
  }
}

// The same in plain stores in cache where every column has its parameters, a band of rows at a time (Note [Bands]). In
// memory, where rows are written one by one, a band would be twice as slow. Wide rows are taken in strips, whose
// parameters stay in L1 from band to band. Parts of vectors, which few columns are left to, are taken row by row.
//
// Note [Lead]: a vector that reaches into a second line costs two loads. Vectors therefore begin where the output has a
// boundary, and so do those of the parameters, which the core lays that many elements past one.
template <class E, class MapAt>
BATCHNORM_INLINE void MapColumns(Tile<E> y, MapAt map) {
  using T = Lane<E>;
  constexpr std::size_t kBand = kBandLines / (MapAt::kInputs + 1), kStrip = 512;
  const std::size_t head = Least(RowsToAlignment(y), y.cols), end = y.cols - (y.cols - head) % kLanes<T>;
  for (std::size_t first = head; first < end; first += kStrip) {
    const std::size_t last = Least(end, first + kStrip);
    std::size_t r = 0;
    for (; r + kBand <= y.rows; r += kBand) {
      for (std::size_t j = first; j < last; j += kLanes<T>) {
        Vec<T> v[kBand];
        for (std::size_t k = 0; k < kBand; ++k) v[k] = map(r + k, j, All{});
        for (std::size_t k = 0; k < kBand; ++k) Store(v[k], Row(y, r + k) + j, All{});
      }
    }
    for (; r < y.rows; ++r) {
      for (std::size_t j = first; j < last; j += kLanes<T>) Store(map(r, j, All{}), Row(y, r) + j, All{});
    }
  }
  const std::size_t parts[][2] = {{0, head}, {end, y.cols}};
  for (const auto& [j, past] : parts) {
    for (std::size_t r = 0; j < past && r < y.rows; ++r) {
      Store(map(r, j, First{past - j}), Row(y, r) + j, First{past - j});
    }
  }
}

// Another map, and 0 where the mask is.
template <class MapAt, class E>
struct MaskedMap {
  using T = Lane<E>;
  static constexpr std::size_t kInputs = MapAt::kInputs + 1;
  MapAt map;
  MaskTile mask;
  PlanarRows rows;
  bool by_row = false;  // SetRow tells the row of the mask
  std::size_t row = 0;
  BATCHNORM_INLINE MaskedMap(const MapAt& of, const MaskTile& by)
      : map(of), mask(by), rows(by.cols == 1 ? PlanarRows::kChannels : of.rows) {}
  template <class Lanes>
  BATCHNORM_INLINE Vec<T> operator()(std::size_t r, std::size_t j, Lanes lanes) const {
    return IfZero(CountsAt<T>(mask, by_row ? row : r, j), Vec<T>{}, map(r, j, lanes));
  }
  BATCHNORM_INLINE void SetRow(std::size_t r) {
    by_row = mask.cols == 1;
    row = r;
    if (map.rows == PlanarRows::kChannels) map.SetRow(r);
  }
  BATCHNORM_INLINE const Tile<const E>& input() const { return map.input(); }
  // A row that all channels share begins anew after its end (SharedOperand in core/shared.h).
  BATCHNORM_INLINE bool Touching() const { return map.Touching() && (RowsTouch(mask) || mask.stride == 0); }
  BATCHNORM_INLINE void Prefetch(std::size_t r, std::size_t j) const { map.Prefetch(r, j); }
};

template <Walk W, class E, class MapAt>
BATCHNORM_INLINE void MapTile(Tile<E> y, MapAt map) {
  if constexpr (W == Walk::kRows) {
    const bool in_cache = map.input().source == Source::kCache && y.source == Source::kCache;
    if (in_cache && y.store == StoreKind::kPlain) return MapColumns(y, map);
  }
  MapRows<W>(y, map);
}

template <Walk W, class E, class MapAt>
BATCHNORM_INLINE void Map(Tile<E> y, MaskTile mask, MapAt map) {
  if constexpr (!kHalfPrecision<E>) {
    if (mask.data != nullptr) return MapTile<W>(y, MaskedMap<MapAt, E>(map, mask));
  }
  MapTile<W>(y, map);
}

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
