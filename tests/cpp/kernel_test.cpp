// Every kernel of every table this CPU can run, against plain float64 loops: tiles of all small widths, with and
// without gaps between their rows, unaligned, from either source. A program of its own, so that it runs under an
// emulator too.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "core/types.h"
#include "dispatch/dispatch.h"

namespace {

using namespace batchnorm;

int failures = 0;

void Expect(bool ok, const char* what, const KernelTable& table, std::size_t rows, std::size_t cols) {
  if (ok) return;
  ++failures;
  std::printf("FAILED %s: %s, tile %zu x %zu\n", table.name, what, rows, cols);
}

template <class T>
bool Near(double got, double want, double scale) {
  return std::abs(got - want) <= (sizeof(T) == 4 ? 1e-6 : 1e-14) * scale;
}

// A rows x cols tile of noise, one element past an aligned address, with a gap after every row and after the last.
template <class T>
struct Matrix {
  static constexpr std::size_t kBeyond = 3;
  std::vector<T> memory;
  std::size_t rows, cols, gap;

  Matrix(std::size_t rows, std::size_t cols, int seed, std::size_t gap = 3)
      : memory(1 + rows * (cols + gap) + kBeyond), rows(rows), cols(cols), gap(gap) {
    std::mt19937 random(static_cast<unsigned>(seed));
    std::normal_distribution<double> normal(3, 2);
    for (T& value : memory) value = static_cast<T>(normal(random));
  }
  std::ptrdiff_t stride() const { return static_cast<std::ptrdiff_t>(cols + gap); }
  Tile<T> tile() { return {memory.data() + 1, rows, cols, stride()}; }
  // What comes next lies outside: asking for it touches nothing.
  Tile<const T> view(Source source = Source::kCache) const {
    return {memory.data() + 1, rows, cols, stride(), source, -(std::ptrdiff_t{1} << 30)};
  }
  double at(std::size_t r, std::size_t c) const { return static_cast<double>(memory[1 + r * (cols + gap) + c]); }
};

// One parameter: n values, which begin anew after the last.
template <class T>
std::vector<T> Parameter(std::size_t n, int seed) {
  std::vector<T> values = Matrix<T>(1, n + kMostLanes, seed).memory;
  for (std::size_t i = 0; i < kMostLanes; ++i) values[n + i] = values[i];
  return values;
}

enum class Kind { kPlanar, kPlanarPerRow, kRows };

template <class T>
void Sums(const KernelTable& table, const WalkKernels<T>& kernels, bool planar, Source source, std::size_t rows,
          std::size_t cols) {
  const Matrix<T> x(rows, cols, 1), dy(rows, cols, 2), pivot(1, cols, 3);
  const T* pivots = pivot.view().data;
  for (std::size_t precision = 0; precision < kPrecisions; ++precision) {
    std::vector<double> a(cols + 1, 7), b(cols + 1, 7), c(cols + 1, 7), d(cols + 1, 7);
    kernels.moments[precision](x.view(source), pivots, a.data(), b.data());
    kernels.gradient_sums[precision](dy.view(source), x.view(source), {pivots, pivots}, c.data(), d.data());
    const std::size_t sums = planar ? 1 : cols;
    for (std::size_t s = 0; s < sums; ++s) {
      double sum = 0, sum2 = 0, sum_dy = 0, sum_dy_xhat = 0;
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t j = planar ? 0 : s; j < (planar ? cols : s + 1); ++j) {
          const double e = x.at(r, j) - static_cast<double>(pivots[s]);
          sum += e;
          sum2 += e * e;
          sum_dy += dy.at(r, j);
          sum_dy_xhat += dy.at(r, j) * e * static_cast<double>(pivots[s]);
        }
      }
      const double scale = 10 * (1 + static_cast<double>(planar ? rows * cols : rows));
      Expect(Near<T>(a[s], sum, scale) && Near<T>(b[s], sum2, 10 * scale), "moments", table, rows, cols);
      Expect(Near<T>(c[s], sum_dy, scale) && Near<T>(d[s], sum_dy_xhat, 100 * scale), "gradient_sums", table, rows,
             cols);
    }
    for (const auto* v : {&a, &b, &c, &d}) Expect((*v)[sums] == 7, "sums beyond the columns", table, rows, cols);
  }
}

template <class T>
void Maps(const KernelTable& table, Kind kind, Source source, std::size_t rows, std::size_t cols, std::size_t gap) {
  const WalkKernels<T>& kernels = KernelsOf(table, T{}).walk[kind == Kind::kRows ? 1 : 0];
  const bool per_row = kind == Kind::kPlanarPerRow;
  const PlanarRows planar_rows = per_row ? PlanarRows::kChannels : PlanarRows::kRuns;
  const Matrix<T> x(rows, cols, 1, gap), dy(rows, cols, 2, gap);
  std::vector<std::vector<T>> p;
  for (int i = 0; i < 4; ++i) p.push_back(Parameter<T>(per_row ? rows : cols, 10 + i));
  for (std::size_t store = 0; store < kStoreKinds; ++store) {
    Matrix<T> y(rows, cols, 5, gap), dx(rows, cols, 6, gap);
    const Matrix<T> y_before = y, dx_before = dx;
    kernels.affine[store](x.view(source), {p[0].data(), p[1].data(), p[2].data(), planar_rows}, y.tile());
    kernels.gradient[store](dy.view(source), x.view(source),
                            {p[0].data(), p[1].data(), p[2].data(), p[3].data(), planar_rows}, dx.tile());
    table.fence();
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t j = 0; j < cols; ++j) {
        const auto at = [&](std::size_t i) {
          return static_cast<double>(p[i][kind == Kind::kRows ? j : per_row ? r : 0]);
        };
        Expect(Near<T>(y.at(r, j), (x.at(r, j) - at(0)) * at(1) + at(2), 100), "affine", table, rows, cols);
        const double want = ((dy.at(r, j) - at(0)) + (x.at(r, j) - at(1)) * at(2)) * at(3);
        Expect(Near<T>(dx.at(r, j), want, 1000), "gradient", table, rows, cols);
      }
      const std::size_t beyond = r + 1 < rows ? gap : gap + Matrix<T>::kBeyond;
      for (std::size_t j = cols; j < cols + beyond; ++j) {
        const bool kept = y.at(r, j) == y_before.at(r, j) && dx.at(r, j) == dx_before.at(r, j);
        Expect(kept, "writing outside of rows", table, rows, cols);
      }
    }
  }
}

void Moves(const KernelTable& table) {
  for (std::size_t n : {0u, 1u, 5u, 16u, 127u, 1000u}) {
    const Matrix<float> a(1, n, 1), b(1, n, 2);
    for (std::size_t store = 0; store < kStoreKinds; ++store) {
      Matrix<float> copy(1, n, 3), sum(1, n, 3);
      table.move.copy[store](a.view().data, copy.tile().data, n);
      table.move.read2write1[store](a.view().data, b.view().data, sum.tile().data, n);
      double total_a = 0, total = 0;
      for (std::size_t i = 0; i < n; ++i) {
        Expect(copy.at(0, i) == a.at(0, i), "copy", table, 1, n);
        Expect(Near<float>(sum.at(0, i), a.at(0, i) + b.at(0, i), 10), "read2write1", table, 1, n);
        total_a += a.at(0, i);
        total += a.at(0, i) + b.at(0, i);
      }
      const double scale = 10 * static_cast<double>(n);
      Expect(Near<float>(static_cast<double>(table.move.read1(a.view().data, n)), total_a, scale), "read1", table, 1,
             n);
      Expect(Near<float>(static_cast<double>(table.move.read2(a.view().data, b.view().data, n)), total, scale), "read2",
             table, 1, n);
    }
  }
}

// Every stride, from and to memory that isn't aligned.
template <class T>
void Runs(const KernelTable& table) {
  const Kernels<T>& kernels = KernelsOf(table, T{});
  constexpr auto kItem = static_cast<std::ptrdiff_t>(sizeof(T));
  for (std::size_t n : {0u, 1u, 3u, 16u, 57u, 200u}) {
    for (const std::ptrdiff_t stride :
         {-2 * kItem, -kItem, std::ptrdiff_t{0}, kItem, kItem + 1, 2 * kItem, 3 * kItem, 20 * kItem}) {
      const auto reach = static_cast<std::size_t>(std::abs(stride)) * n + sizeof(T);
      std::vector<char> memory(2 * reach + 1, 1);
      char* const base = memory.data() + reach + 1;
      const Matrix<T> values(1, n, 4);
      Matrix<T> got(1, n, 5);
      kernels.scatter(values.view().data, n, base, stride);
      kernels.gather(base, stride, 4096, n, got.tile().data);
      for (std::size_t i = 0; i < n; ++i) {
        Expect(got.at(0, i) == values.at(0, stride == 0 ? n - 1 : i), "gather of what was scattered", table, 1, n);
      }
      if (stride > kItem && n > 1) Expect(base[kItem] == 1, "what lies between is left alone", table, 1, n);
    }
  }
}

template <class T>
void AllTiles(const KernelTable& table) {
  const Kernels<T>& kernels = KernelsOf(table, T{});
  for (std::size_t rows : {1u, 2u, 5u, 17u, 40u}) {
    for (std::size_t cols = 1; cols <= 70; ++cols) {
      for (bool planar : {true, false}) {
        for (Source source : {Source::kCache, Source::kMemory}) {
          Sums(table, kernels.walk[planar ? 0 : 1], planar, source, rows, cols);
        }
      }
      for (Kind kind : {Kind::kPlanar, Kind::kPlanarPerRow, Kind::kRows}) {
        for (Source source : {Source::kCache, Source::kMemory, Source::kNext}) {
          for (std::size_t gap : {0u, 3u}) Maps<T>(table, kind, source, rows, cols, gap);
        }
      }
    }
  }
  Sums(table, kernels.walk[0], true, Source::kMemory, 3, 5000);
  Maps<T>(table, Kind::kPlanar, Source::kMemory, 3, 5000, 3);
}

}  // namespace

int main() {
  for (const std::string& isa : UsableIsas()) {
    SetIsa(isa);
    const KernelTable& table = ActiveKernels();
    AllTiles<float>(table);
    AllTiles<double>(table);
    Runs<float>(table);
    Runs<double>(table);
    Moves(table);
    std::printf("%s: %s\n", table.name, failures ? "failed" : "ok");
  }
  return failures != 0;
}
