// The only door to the kernels: plain function pointers over plain data. This header is read by every ISA object, so it
// holds no function (Note [ISA objects share no code] in cpp/README.md).
#pragma once

#include <cstddef>

namespace batchnorm {

// Where the values that a kernel reads lie. Those in memory are asked for ahead (Note [Prefetch] in access-inl.h); in
// cache that would take longer than it saves. kNext: in cache, and while they are mapped those that come next are asked
// for.
enum class Source { kCache, kMemory, kNext };

// rows x cols elements: each row a contiguous run, `stride` elements (of any sign) from one row to the next.
template <class T>
struct Tile {
  T* data;
  std::size_t rows;
  std::size_t cols;
  std::ptrdiff_t stride;
  Source source = Source::kCache;
  std::ptrdiff_t next = 0;  // kNext: bytes from an element to the one to ask for
};

// The float lanes of the widest vector. Parameters per column begin anew after their end, for so many columns (Note
// [Straddling rows] in map-inl.h).
constexpr std::size_t kMostLanes = 16;

// What the rows of a planar tile are: runs of one channel, or one run each of several channels.
enum class PlanarRows { kRuns, kChannels };

// y = (x - center) * scale + shift. Planar: one value each, or one per row where rows are channels. Rows: one per
// column (and kMostLanes).
template <class T>
struct AffineParameters {
  const T* center;
  const T* scale;
  const T* shift;
  PlanarRows rows = PlanarRows::kRuns;
};

// xhat = (x - center) * rstd. As above, without a wrap.
template <class T>
struct NormalizedParameters {
  const T* center;
  const T* rstd;
};

// dx = ((dy - mean_dy) + (x - center) * slope) * scale. As AffineParameters.
template <class T>
struct GradientParameters {
  const T* mean_dy;
  const T* center;
  const T* slope;
  const T* scale;
  PlanarRows rows = PlanarRows::kRuns;
};

enum class Walk {
  kPlanar,  // a tile, or each of its rows, is one channel's; parameters and sums are one value
  kRows,    // every column of a tile has its own
};
constexpr std::size_t kWalks = 2;

enum class StoreKind { kPlain, kStream };
constexpr std::size_t kStoreKinds = 2;

// Lanes that sums are taken in: those of the element type, which widen early, or float64 throughout.
enum class Precision { kNarrow, kWide };
constexpr std::size_t kPrecisions = 2;

// The kernels of one walk. They are leaves: inputs may equal the output, other overlap not.
template <class T>
struct WalkKernels {
  // sum = sum of (x - pivot), sum2 = sum of (x - pivot)^2
  void (*moments[kPrecisions])(Tile<const T> x, const T* pivot, double* sum, double* sum2);
  // sum_dy = sum of dy, sum_dy_xhat = sum of dy * (x - center) * rstd
  void (*gradient_sums[kPrecisions])(Tile<const T> dy, Tile<const T> x, NormalizedParameters<T> p, double* sum_dy,
                                     double* sum_dy_xhat);
  void (*affine[kStoreKinds])(Tile<const T> x, AffineParameters<T> p, Tile<T> y);
  void (*gradient[kStoreKinds])(Tile<const T> dy, Tile<const T> x, GradientParameters<T> p, Tile<T> dx);
};

template <class T>
struct Kernels {
  WalkKernels<T> walk[kWalks];
  // to[i] = the element i * stride bytes from `from`, of any alignment; what comes next lies `ahead` bytes further on
  void (*gather)(const char* from, std::ptrdiff_t stride, std::ptrdiff_t ahead, std::size_t n, T* to);
  void (*scatter)(const T* from, std::size_t n, char* to, std::ptrdiff_t stride);
};

// What only moves bytes: the limit that a benchmark compares with.
struct MoveKernels {
  float (*read1)(const float* a, std::size_t n);
  float (*read2)(const float* a, const float* b, std::size_t n);
  void (*copy[kStoreKinds])(const float* a, float* out, std::size_t n);
  void (*read2write1[kStoreKinds])(const float* a, const float* b, float* out, std::size_t n);
};

struct KernelTable {
  const char* name;
  Kernels<float> f32;
  Kernels<double> f64;
  MoveKernels move;
  void (*fence)();  // after streaming stores, before anything that tells others that they took place
};

}  // namespace batchnorm
