// The only door to the kernels: plain function pointers over plain data. This header is read by every ISA object, so it
// holds no function (Note [ISA objects share no code] in cpp/README.md).
#pragma once

#include <cstddef>

#include "simd/elements.h"

namespace batchnorm {

// The element types of arrays in memory. Kernels exist for the floating ones, and sums for bytes; what is of another
// type than its kernel is converted block by block.
//
// A bool is a byte, false where it is 0. A sign is a bit, set where a value is positive or NaN, and read as 1 or -1.
// Addresses and strides of signs count bits: the address of a sign is that of its byte, times 8, plus its place there.
enum class DType { kFloat32, kFloat64, kFloat16, kBFloat16, kUInt8, kInt8, kUInt16, kInt16, kBool, kSign };
constexpr std::size_t kDTypes = 10;

// What an element is calculated in: parameters and sums beside an E are of this type.
template <class E>
struct LaneOf {
  using Type = float;
};
template <>
struct LaneOf<double> {
  using Type = double;
};
template <class E>
using Lane = typename LaneOf<E>::Type;

// Where the values that a kernel reads lie. Those in memory are asked for ahead (Note [Prefetch] in access-inl.h); in
// cache that would take longer than it saves. kNext: in cache, and while they are mapped those that come next are asked
// for.
enum class Source { kCache, kMemory, kNext };

// How what a kernel writes gets to memory: by way of the caches, or past them.
enum class StoreKind { kPlain, kStream };

// rows x cols elements: each row a contiguous run, `stride` elements (of any sign) from one row to the next. Planar
// sums take several channels at once, each of rows x cols elements, `channel_stride` apart.
template <class E>
struct Tile {
  E* data;
  std::size_t rows;
  std::size_t cols;
  std::ptrdiff_t stride;
  Source source = Source::kCache;
  std::ptrdiff_t next = 0;  // kNext: bytes from an element to the one to ask for
  std::size_t channels = 1;
  std::ptrdiff_t channel_stride = 0;
  StoreKind store = StoreKind::kPlain;
};

// Bytes, 0 where nothing counts. After its last row come kMostLanes more, so that vectors can be read whole.
using MaskTile = Tile<const std::uint8_t>;

// The float lanes of the widest vector. Parameters per column begin anew after their end, for so many columns (Note
// [Straddling rows] in map-inl.h).
constexpr std::size_t kMostLanes = 16;

// What the rows of a planar tile are: runs of one channel, or one run each of several channels.
enum class PlanarRows { kRuns, kChannels };

// What a forward kernel does after the affine transform: nothing; an activation; it adds a residual, then an
// activation, which may be the identity.
enum class Fusion { kNone, kActivation, kResidual };
constexpr std::size_t kFusions = 3;

// How a backward kernel takes dy back through the activation: there was none; the side of the kink is told by x,
// through the forward's own transform; or by y.
enum class Gate { kOpen, kOfX, kOfY };
constexpr std::size_t kGates = 3;

// Parameters are one value each for a planar tile, or one per row where rows are channels; for rows one per column, and
// kMostLanes more.

// y = (x - center) * scale + shift, times slope where that is negative
template <class T>
struct AffineParameters {
  const T* center;
  const T* scale;
  const T* shift;
  PlanarRows rows = PlanarRows::kRuns;
  const T* slope = nullptr;  // unless Fusion::kNone
};

// g = dy, times slope where (x - center) * scale + shift, or y, is not positive. Null where the gate is open.
template <class T>
struct GateParameters {
  const T* center = nullptr;
  const T* scale = nullptr;
  const T* shift = nullptr;
  const T* slope = nullptr;
};

// xhat = (x - center) * rstd. Without values beyond the columns.
template <class T>
struct NormalizedParameters {
  const T* center;
  const T* rstd;
};

// dx = ((g - mean_g) + (x - center) * slope) * scale
template <class T>
struct GradientParameters {
  const T* mean_g;
  const T* center;
  const T* slope;
  const T* scale;
  PlanarRows rows = PlanarRows::kRuns;
};

// out = (x - center) * of_x + dy * of_dy + y * of_y + constant
template <class T>
struct CombineParameters {
  const T* center;
  const T* of_x;
  const T* of_dy;
  const T* of_y;
  const T* constant;
  PlanarRows rows = PlanarRows::kRuns;
};

// What backward kernels read; y for Gate::kOfY, and where three arrays are combined.
template <class E>
struct GradientTiles {
  Tile<const E> dy, x, y;
  MaskTile mask = {};
};

enum class Walk {
  kPlanar,  // a tile, or each of its rows, is one channel's; parameters and sums are one value
  kRows,    // every column of a tile has its own
};
constexpr std::size_t kWalks = 2;

// Lanes that sums are taken in: those of the element type, which widen early, or float64 throughout.
enum class Precision { kNarrow, kWide };
constexpr std::size_t kPrecisions = 2;

// The kernels of one walk. They are leaves: inputs may equal the output, other overlap not.
//
// What a mask tells apart: where it is 0, a value adds nothing to a sum, and an output is 0, whatever lies there.
// Without data it is no mask; with one column it has one value per row. With a mask, or three arrays to combine, half
// precisions are calculated as float: their kernels are without.
template <class E>
struct WalkKernels {
  using T = Lane<E>;
  // sum = sum of (x - pivot), sum2 = sum of (x - pivot)^2
  void (*moments[kPrecisions])(Tile<const E> x, MaskTile mask, const T* pivot, double* sum, double* sum2);
  // sum = sum of x, sum2 = sum of x^2, exact. For bytes alone.
  void (*sums)(Tile<const E> x, double* sum, double* sum2);
  // low = the least, high = the greatest of what they hold and of x, but for NaN
  void (*extremes)(Tile<const E> x, MaskTile mask, T* low, T* high);
  // sum = sum of w * (x - pivot), sum2 = sum of w * (x - pivot)^2; an x of weight 0 may be anything. For float64 alone.
  void (*weighted_moments)(Tile<const E> x, Tile<const E> w, const T* pivot, double* sum, double* sum2);
  // sum_g = sum of g, sum_g_xhat = sum of g * (x - center) * rstd
  void (*gradient_sums[kGates][kPrecisions])(const GradientTiles<E>& in, NormalizedParameters<T> p,
                                             GateParameters<T> gate, double* sum_g, double* sum_g_xhat);
  // sum_dy = sum of dy, sum_dy_v = sum of dy * v, where v, the value before the activation, is not positive. Of y
  // v is y * unslope.
  void (*slope_sums[kGates])(const GradientTiles<E>& in, GateParameters<T> gate, const T* unslope, double* sum_dy,
                             double* sum_dy_v);
  void (*affine[kFusions])(Tile<const E> x, Tile<const E> residual, MaskTile mask, AffineParameters<T> p, Tile<E> y);
  void (*gradient[kGates])(const GradientTiles<E>& in, GradientParameters<T> p, GateParameters<T> gate, Tile<E> dx);
  // g * scale
  void (*gated[kGates])(const GradientTiles<E>& in, const T* scale, GateParameters<T> gate, PlanarRows rows,
                        Tile<E> out);
  void (*combine)(const GradientTiles<E>& in, CombineParameters<T> p, Tile<E> out);
};

// Rows of n elements each in memory: `stride` bytes from one to the next, `row_stride` from row to row.
struct StridedRows {
  std::size_t n;
  std::ptrdiff_t stride;
  std::size_t rows = 1;
  std::ptrdiff_t row_stride = 0;
};

template <class E>
struct Kernels {
  // The elements that lie from `from` on, of any alignment, one after the other; what comes next lies `ahead` bytes
  // further on.
  using Gather = void (*)(const char* from, const StridedRows& stretch, std::ptrdiff_t ahead, E* to);
  // The other way. Signs are set, never cleared.
  using Scatter = void (*)(const E* from, char* to, const StridedRows& stretch);

  WalkKernels<E> walk[kWalks];
  // to[i * each + c] = once[i] for c < each, and kMostLanes more may be written; for masks and weights
  void (*repeat)(const E* once, std::size_t n, std::size_t each, E* to);
  // From memory of each DType, and to it; null where E doesn't stand in for it.
  Gather gather[kDTypes];
  Scatter scatter[kDTypes];
};

// What only moves bytes: the limit that a benchmark compares with.
struct MoveKernels {
  float (*read1)(const float* a, std::size_t n);
  float (*read2)(const float* a, const float* b, std::size_t n);
  void (*copy)(const float* a, float* out, std::size_t n, StoreKind store);
  void (*read2write1)(const float* a, const float* b, float* out, std::size_t n, StoreKind store);
};

struct KernelTable {
  const char* name;
  Kernels<float> f32;
  Kernels<double> f64;
  bool has_half_precisions;  // where not, they are calculated as float
  Kernels<Float16> f16;
  Kernels<BFloat16> bf16;
  // Of bytes: exact sums, and extremes.
  Kernels<std::uint8_t> u8;
  Kernels<std::int8_t> i8;
  MoveKernels move;
  void (*fence)();  // after streaming stores, before anything that tells others that they took place
};

}  // namespace batchnorm
