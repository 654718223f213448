// Every kernel of every table this CPU can run, against plain float64 loops: tiles of all small widths, with and
// without gaps between their rows, unaligned, from either source. A program of its own, so that it runs under an
// emulator too.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <type_traits>
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

// What rounding to E, or sums in its lanes, may take from a value of 1.
template <class E>
constexpr double kEpsilon = 1e-6;
template <>
constexpr double kEpsilon<double> = 1e-14;
template <>
constexpr double kEpsilon<Float16> = 1.0 / 2048;
template <>
constexpr double kEpsilon<BFloat16> = 1.0 / 256;

template <class E>
bool Near(double got, double want, double scale) {
  return std::abs(got - want) <= kEpsilon<E> * scale;
}

// By the definition of the formats. What is encoded has few bits, so that nothing is rounded.
template <class Number>
double Decoded(Number v) {
  return static_cast<double>(v);
}
double DecodedBits(std::uint16_t bits, int fraction_bits, int bias) {
  const int exponent = (bits & 0x7fff) >> fraction_bits, fraction = bits & ((1 << fraction_bits) - 1);
  const double one = std::ldexp(1.0, fraction_bits);
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction / one, 1 - bias) : std::ldexp(1 + fraction / one, exponent - bias);
  return bits & 0x8000 ? -magnitude : magnitude;
}
double Decoded(Float16 v) { return DecodedBits(v.bits, 10, 15); }
double Decoded(BFloat16 v) { return DecodedBits(v.bits, 7, 127); }

std::uint16_t Encoded(double v, int fraction_bits, int bias) {
  if (v == 0) return 0;
  int exponent = 0;
  const double fraction = 2 * std::abs(std::frexp(v, &exponent)) - 1;
  const int bits = (exponent - 1 + bias) << fraction_bits | static_cast<int>(std::ldexp(fraction, fraction_bits));
  return static_cast<std::uint16_t>(v < 0 ? bits | 0x8000 : bits);
}
void Encode(double v, float* e) { *e = static_cast<float>(v); }
void Encode(double v, double* e) { *e = v; }
void Encode(double v, Float16* e) { e->bits = Encoded(v, 10, 15); }
void Encode(double v, BFloat16* e) { e->bits = Encoded(v, 7, 127); }
template <class Integer>
void Encode(double v, Integer* e) {
  *e = static_cast<Integer>(v);
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
    for (T& value : memory) {
      const double v = std::is_unsigned_v<T> ? std::abs(normal(random)) : normal(random);
      Encode(kHalfPrecision<T> ? std::round(4 * v) / 4 : v, &value);
    }
  }
  std::ptrdiff_t stride() const { return static_cast<std::ptrdiff_t>(cols + gap); }
  Tile<T> tile() { return {memory.data() + 1, rows, cols, stride()}; }
  // What comes next lies outside: asking for it touches nothing.
  Tile<const T> view(Source source = Source::kCache) const {
    return {memory.data() + 1, rows, cols, stride(), source, -(std::ptrdiff_t{1} << 30)};
  }
  double at(std::size_t r, std::size_t c) const { return Decoded(memory[1 + r * (cols + gap) + c]); }
  // NaN wherever the mask says that nothing counts.
  template <class Counts>
  void Spoil(const Counts& counts) {
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < cols; ++c) {
        if (!counts(r, c)) Encode(std::nan(""), &memory[1 + r * (cols + gap) + c]);
      }
    }
  }
};

// Without one, with one value per element, or per row.
enum class Masked { kNot, kEach, kRow };

// Any byte but 0 counts, whichever bits are set. It begins off alignment.
class Mask {
 public:
  Mask(Masked masked, std::size_t rows, std::size_t cols)
      : masked_(masked),
        rows_(rows),
        cols_(masked == Masked::kEach ? cols : 1),
        values_(1 + rows * cols_ + kMostLanes, std::uint8_t{1}) {
    constexpr std::uint8_t kTrue[] = {1, 2, 128, 255};
    for (std::size_t i = 0; i < rows * cols_; ++i) values_[1 + i] = i * i % 7 % 3 == 0 ? std::uint8_t{0} : kTrue[i % 4];
  }
  bool operator()(std::size_t r, std::size_t c) const {
    return masked_ == Masked::kNot || values_[1 + r * cols_ + (cols_ == 1 ? 0 : c)] != 0;
  }
  MaskTile tile() const {
    if (masked_ == Masked::kNot) return {};
    return {values_.data() + 1, rows_, cols_, static_cast<std::ptrdiff_t>(cols_)};
  }

 private:
  Masked masked_;
  std::size_t rows_, cols_;
  std::vector<std::uint8_t> values_;
};

// What kernels of E take: half precisions have no masks, and a row of a planar tile is no place.
template <class E>
std::vector<Masked> MasksOf(bool planar) {
  if (sizeof(E) < sizeof(Lane<E>)) return {Masked::kNot};
  if (planar) return {Masked::kNot, Masked::kEach};
  return {Masked::kNot, Masked::kEach, Masked::kRow};
}

// One parameter: n values, which begin anew after the last.
template <class T>
std::vector<T> Parameter(std::size_t n, int seed) {
  std::vector<T> values = Matrix<T>(1, n + kMostLanes, seed).memory;
  for (std::size_t i = 0; i < kMostLanes; ++i) values[n + i] = values[i];
  return values;
}

enum class Kind { kPlanar, kPlanarPerRow, kRows };

double Rectified(double v, double side, double slope) { return side <= 0 ? v * slope : v; }

template <class E>
void Sums(const KernelTable& table, const WalkKernels<E>& kernels, bool planar, Source source, std::size_t rows,
          std::size_t cols, Masked masked) {
  using T = Lane<E>;
  Matrix<E> x(rows, cols, 1), dy(rows, cols, 2), y(rows, cols, 7);
  const Mask mask(masked, rows, cols);
  for (Matrix<E>* matrix : {&x, &dy, &y}) matrix->Spoil(mask);
  const std::vector<T> p = Parameter<T>(cols, 3), shift = Parameter<T>(cols, 8), slope = Parameter<T>(cols, 9);
  const GradientTiles<E> in = {dy.view(source), x.view(source), y.view(source), mask.tile()};
  const GateParameters<T> gate = {p.data(), p.data(), shift.data(), slope.data()};
  const std::size_t sums = planar ? 1 : cols;
  const double scale = 10 * (1 + static_cast<double>(planar ? rows * cols : rows));
  // visit(sum, r, j) for the elements of each sum that count.
  const auto for_each = [&](auto visit) {
    for (std::size_t s = 0; s < sums; ++s) {
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t j = planar ? 0 : s; j < (planar ? cols : s + 1); ++j) {
          if (mask(r, j)) visit(s, r, j);
        }
      }
    }
  };
  const auto centred = [&](std::size_t s, std::size_t r, std::size_t j) {
    return x.at(r, j) - static_cast<double>(p[s]);
  };
  const auto side = [&](std::size_t g, std::size_t s, std::size_t r, std::size_t j) {
    return g == 2 ? y.at(r, j) : centred(s, r, j) * static_cast<double>(p[s]) + static_cast<double>(shift[s]);
  };
  const auto expect = [&](const std::vector<double>& first, const std::vector<double>& second,
                          const std::vector<double>& want, const std::vector<double>& want2, double scale2,
                          const char* what) {
    for (std::size_t s = 0; s < sums; ++s) {
      const bool near = std::abs(first[s] - want[s]) <= kEpsilon<T> * scale &&
                        std::abs(second[s] - want2[s]) <= kEpsilon<T> * scale2 * scale;
      Expect(near, what, table, rows, cols);
    }
    Expect(first[sums] == 7 && second[sums] == 7, "sums beyond the columns", table, rows, cols);
  };
  const std::vector<double> fresh(cols + 1, 7), zero(cols, 0);
  for (std::size_t precision = 0; precision < kPrecisions; ++precision) {
    if (!kernels.moments[precision]) continue;
    std::vector<double> first = fresh, second = fresh, want = zero, want2 = zero;
    kernels.moments[precision](x.view(source), mask.tile(), p.data(), first.data(), second.data());
    for_each([&](std::size_t s, std::size_t r, std::size_t j) {
      want[s] += centred(s, r, j);
      want2[s] += centred(s, r, j) * centred(s, r, j);
    });
    expect(first, second, want, want2, 10, "moments");
    for (std::size_t g = 0; g < kGates; ++g) {
      if (!kernels.gradient_sums[g][precision]) continue;
      first = second = fresh;
      want = want2 = zero;
      kernels.gradient_sums[g][precision](in, {p.data(), p.data()}, gate, first.data(), second.data());
      for_each([&](std::size_t s, std::size_t r, std::size_t j) {
        const double of_dy = dy.at(r, j);
        const double e = g == 0 ? of_dy : Rectified(of_dy, side(g, s, r, j), static_cast<double>(slope[s]));
        want[s] += e;
        want2[s] += e * centred(s, r, j) * static_cast<double>(p[s]);
      });
      expect(first, second, want, want2, 1000, "gradient_sums");
    }
  }
  if (kernels.weighted_moments && masked != Masked::kNot) {
    std::vector<double> first = fresh, second = fresh, want = zero, want2 = zero;
    Matrix<E> weights(rows, cols, 11);
    for (E& weight : weights.memory) Encode(std::abs(Decoded(weight)), &weight);
    const Tile<const E> tile =
        masked == Masked::kRow ? Tile<const E>{weights.view().data, rows, 1, weights.stride()} : weights.view();
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t j = 0; j < cols; ++j) {
        if (!mask(r, j)) Encode(0, &weights.memory[1 + r * (cols + 3) + j]);
      }
    }
    kernels.weighted_moments(x.view(source), tile, p.data(), first.data(), second.data());
    for_each([&](std::size_t s, std::size_t r, std::size_t j) {
      const double w = weights.at(r, masked == Masked::kRow ? 0 : j);
      want[s] += w * centred(s, r, j);
      want2[s] += w * centred(s, r, j) * centred(s, r, j);
    });
    expect(first, second, want, want2, 10, "weighted_moments");
  }
  const T infinity = std::numeric_limits<T>::infinity();
  std::vector<T> low(cols + 1, infinity), high(cols + 1, -infinity);
  std::vector<double> least(cols, infinity), greatest(cols, -infinity);
  kernels.extremes(x.view(source), mask.tile(), low.data(), high.data());
  for_each([&](std::size_t s, std::size_t r, std::size_t j) {
    least[s] = std::min(least[s], x.at(r, j));
    greatest[s] = std::max(greatest[s], x.at(r, j));
  });
  for (std::size_t s = 0; s < sums; ++s) {
    const bool same = static_cast<double>(low[s]) == least[s] && static_cast<double>(high[s]) == greatest[s];
    Expect(same, "extremes", table, rows, cols);
  }
  Expect(low[sums] == infinity && high[sums] == -infinity, "extremes beyond the columns", table, rows, cols);
  for (std::size_t g = 0; g < kGates; ++g) {
    if (!kernels.slope_sums[g]) continue;
    std::vector<double> first = fresh, second = fresh, want = zero, want2 = zero;
    kernels.slope_sums[g](in, gate, shift.data(), first.data(), second.data());
    for_each([&](std::size_t s, std::size_t r, std::size_t j) {
      const double v = side(g, s, r, j);
      if (v > 0) return;
      want[s] += dy.at(r, j);
      want2[s] += dy.at(r, j) * (g == 2 ? v * static_cast<double>(shift[s]) : v);
    });
    expect(first, second, want, want2, 1000, "slope_sums");
  }
}

// Sums over several channels at once are those of each channel alone, bit by bit.
template <class E>
void Channels(const KernelTable& table, Source source, std::size_t rows, std::size_t cols, Masked masked) {
  using T = Lane<E>;
  constexpr std::size_t kChannels = 3;
  const WalkKernels<E>& kernels = KernelsOf(table, E{}).walk[0];
  const Matrix<E> x(kChannels * rows, cols, 1), dy(kChannels * rows, cols, 2), y(kChannels * rows, cols, 7);
  const Mask mask(masked, rows, cols);
  const std::vector<T> p = Parameter<T>(kChannels, 3), shift = Parameter<T>(kChannels, 8);
  const auto part = [&](const Matrix<E>& of, std::size_t channel, std::size_t channels) {
    Tile<const E> tile = of.view(source);
    tile.rows = rows;
    tile.channels = channels;
    tile.channel_stride = static_cast<std::ptrdiff_t>(rows) * of.stride();
    tile.data += static_cast<std::ptrdiff_t>(channel) * tile.channel_stride;
    return tile;
  };
  // take(c, channels, first, second) fills the sums of so many channels from c on.
  const auto check = [&](const char* what, auto zero, auto take) {
    using Sum = decltype(zero);
    std::vector<Sum> first(kChannels), second(kChannels), first_alone(kChannels), second_alone(kChannels);
    take(std::size_t{0}, kChannels, first.data(), second.data());
    for (std::size_t c = 0; c < kChannels; ++c) take(c, std::size_t{1}, &first_alone[c], &second_alone[c]);
    Expect(first == first_alone && second == second_alone, what, table, rows, cols);
  };
  const auto in = [&](std::size_t c, std::size_t n) {
    return GradientTiles<E>{part(dy, c, n), part(x, c, n), part(y, c, n), mask.tile()};
  };
  const auto gate = [&](std::size_t c) {
    return GateParameters<T>{p.data() + c, p.data() + c, shift.data() + c, shift.data() + c};
  };
  for (std::size_t precision = 0; precision < kPrecisions; ++precision) {
    if (!kernels.moments[precision]) continue;
    check("moments of channels", double{}, [&](std::size_t c, std::size_t n, double* first, double* second) {
      kernels.moments[precision](part(x, c, n), mask.tile(), p.data() + c, first, second);
    });
    for (std::size_t g = 0; g < kGates; ++g) {
      check("gradient_sums of channels", double{}, [&](std::size_t c, std::size_t n, double* first, double* second) {
        kernels.gradient_sums[g][precision](in(c, n), {p.data() + c, p.data() + c}, gate(c), first, second);
      });
    }
  }
  for (std::size_t g = 1; g < kGates; ++g) {
    check("slope_sums of channels", double{}, [&](std::size_t c, std::size_t n, double* first, double* second) {
      kernels.slope_sums[g](in(c, n), gate(c), shift.data() + c, first, second);
    });
  }
  check("extremes of channels", T{}, [&](std::size_t c, std::size_t n, T* first, T* second) {
    kernels.extremes(part(x, c, n), mask.tile(), first, second);
  });
  if (kernels.weighted_moments && masked != Masked::kNot) {
    const Matrix<E> weights(rows, cols, 6);
    check("weighted_moments of channels", double{}, [&](std::size_t c, std::size_t n, double* first, double* second) {
      kernels.weighted_moments(part(x, c, n), weights.view(), p.data() + c, first, second);
    });
  }
}

template <class E>
void Maps(const KernelTable& table, Kind kind, Source source, std::size_t rows, std::size_t cols, std::size_t gap,
          Masked masked) {
  using T = Lane<E>;
  const WalkKernels<E>& kernels = KernelsOf(table, E{}).walk[kind == Kind::kRows ? 1 : 0];
  const bool per_row = kind == Kind::kPlanarPerRow;
  const PlanarRows planar_rows = per_row ? PlanarRows::kChannels : PlanarRows::kRuns;
  Matrix<E> x(rows, cols, 1, gap), dy(rows, cols, 2, gap), z(rows, cols, 7, gap);
  const Mask mask(masked, rows, cols);
  for (Matrix<E>* matrix : {&x, &dy, &z}) matrix->Spoil(mask);
  const GradientTiles<E> in = {dy.view(source), x.view(source), z.view(source), mask.tile()};
  std::vector<std::vector<T>> p;
  for (int i = 0; i < 5; ++i) p.push_back(Parameter<T>(per_row ? rows : cols, 10 + i));
  const GateParameters<T> gate = {p[1].data(), p[2].data(), p[3].data(), p[4].data()};
  // Runs a kernel that writes to a tile, by either kind of store, and compares with want(r, j, at), at(i) the
  // parameters there.
  const auto check_store = [&](StoreKind store, const char* what, double scale, auto run, auto want) {
    Matrix<E> out(rows, cols, 5, gap);
    const Matrix<E> before = out;
    Tile<E> tile = out.tile();
    tile.store = store;
    if (source == Source::kMemory) tile.source = source;
    run(tile);
    table.fence();
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t j = 0; j < cols; ++j) {
        const auto at = [&](std::size_t i) {
          return static_cast<double>(p[i][kind == Kind::kRows ? j : per_row ? r : 0]);
        };
        const double due = mask(r, j) ? want(r, j, at) : 0;
        Expect(Near<E>(out.at(r, j), due, (kHalfPrecision<E> ? 1 : scale) + std::abs(due)), what, table, rows, cols);
      }
      const std::size_t beyond = r + 1 < rows ? gap : gap + Matrix<E>::kBeyond;
      for (std::size_t j = cols; j < cols + beyond; ++j) {
        Expect(out.at(r, j) == before.at(r, j), "writing outside of rows", table, rows, cols);
      }
    }
  };
  const auto check = [&](const char* what, double scale, auto run, auto want) {
    for (StoreKind store : {StoreKind::kPlain, StoreKind::kStream}) check_store(store, what, scale, run, want);
  };
  const auto gated = [&](std::size_t g, std::size_t r, std::size_t j, auto at) {
    const double of_x = (x.at(r, j) - at(1)) * at(2) + at(3);
    return g == 0 ? dy.at(r, j) : Rectified(dy.at(r, j), g == 1 ? of_x : z.at(r, j), at(4));
  };
  for (std::size_t f = 0; f < kFusions; ++f) {
    if (!kernels.affine[f]) continue;
    check(
        "affine", 100,
        [&](Tile<E> out) {
          kernels.affine[f](x.view(source), z.view(source), mask.tile(),
                            {p[0].data(), p[1].data(), p[2].data(), planar_rows, p[4].data()}, out);
        },
        [&](std::size_t r, std::size_t j, auto at) {
          double v = (x.at(r, j) - at(0)) * at(1) + at(2);
          if (f == 2) v += z.at(r, j);
          return f == 0 ? v : Rectified(v, v, at(4));
        });
  }
  for (std::size_t g = 0; g < kGates; ++g) {
    if (kernels.gradient[g]) {
      check(
          "gradient", 1000,
          [&](Tile<E> out) {
            kernels.gradient[g](in, {p[0].data(), p[1].data(), p[2].data(), p[3].data(), planar_rows}, gate, out);
          },
          [&](std::size_t r, std::size_t j, auto at) {
            return ((gated(g, r, j, at) - at(0)) + (x.at(r, j) - at(1)) * at(2)) * at(3);
          });
    }
    if (kernels.gated[g]) {
      check(
          "gated", 100, [&](Tile<E> out) { kernels.gated[g](in, p[3].data(), gate, planar_rows, out); },
          [&](std::size_t r, std::size_t j, auto at) { return gated(g, r, j, at) * at(3); });
    }
  }
  if (kernels.combine && masked == Masked::kNot) {
    check(
        "combine", 1000,
        [&](Tile<E> out) {
          kernels.combine(in, {p[0].data(), p[1].data(), p[2].data(), p[3].data(), p[4].data(), planar_rows}, out);
        },
        [&](std::size_t r, std::size_t j, auto at) {
          return (x.at(r, j) - at(0)) * at(1) + dy.at(r, j) * at(2) + z.at(r, j) * at(3) + at(4);
        });
  }
}

void Moves(const KernelTable& table) {
  for (std::size_t n : {0u, 1u, 5u, 16u, 127u, 1000u}) {
    const Matrix<float> a(1, n, 1), b(1, n, 2);
    for (StoreKind store : {StoreKind::kPlain, StoreKind::kStream}) {
      Matrix<float> copy(1, n, 3), sum(1, n, 3);
      table.move.copy(a.view().data, copy.tile().data, n, store);
      table.move.read2write1(a.view().data, b.view().data, sum.tile().data, n, store);
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

// Every stride, in one row and in several, from and to memory that isn't aligned and that is, and ends with the last
// element.
template <class T>
void Runs(const KernelTable& table) {
  const Kernels<T>& kernels = KernelsOf(table, T{});
  constexpr auto kOwn = static_cast<std::size_t>(kDTypeOf<T>);
  constexpr auto kItem = static_cast<std::ptrdiff_t>(sizeof(T));
  for (std::size_t n : {1u, 3u, 7u, 8u, 16u, 57u, 200u}) {
    for (const std::ptrdiff_t stride :
         {-2 * kItem, -kItem, std::ptrdiff_t{0}, kItem, kItem + 1, 2 * kItem, 3 * kItem, 20 * kItem}) {
      for (std::size_t rows : {1u, 3u}) {
        for (std::size_t off : {0u, 1u}) {
          const std::size_t in_row = static_cast<std::size_t>(std::abs(stride)) * (n - 1);
          const std::size_t apart = (in_row / sizeof(T) + 3) * sizeof(T);
          std::vector<char> memory(off + apart * (rows - 1) + in_row + sizeof(T), 1);
          char* const base = memory.data() + off + (stride < 0 ? in_row : 0);
          const StridedRows stretch{n, stride, rows, static_cast<std::ptrdiff_t>(apart)};
          const Matrix<T> values(1, n * rows, 4);
          Matrix<T> got(1, n * rows, 5);
          kernels.scatter[kOwn](values.view().data, base, stretch);
          kernels.gather[kOwn](base, stretch, 4096, got.tile().data);
          for (std::size_t i = 0; i < n * rows; ++i) {
            const std::size_t kept = stride == 0 ? i / n * n + n - 1 : i;
            Expect(got.at(0, i) == values.at(0, kept), "gather of what was scattered", table, rows, n);
          }
          if (stride > kItem && n > 1) Expect(base[kItem] == 1, "what lies between is left alone", table, rows, n);
          if (rows > 1) Expect(memory[off + in_row + sizeof(T)] == 1, "or between rows", table, rows, n);
        }
      }
    }
  }
  T none = T{};
  kernels.scatter[kOwn](&none, nullptr, {0, 2 * kItem});
  kernels.gather[kOwn](nullptr, {0, 2 * kItem}, 4096, &none);
}

// From and to other types, and signs at every bit of a byte.
void Conversions(const KernelTable& table) {
  for (std::size_t n : {1u, 15u, 16u, 57u, 200u}) {
    for (const std::ptrdiff_t stride : {-3, -1, 1, 2, 5}) {
      const auto check = [&](auto zero, DType dtype, double least) {
        using M = decltype(zero);
        const auto kItem = static_cast<std::ptrdiff_t>(sizeof(M));
        std::vector<M> memory(5 * n + 1, zero);
        M* const base = stride < 0 ? &memory.back() : memory.data();
        for (std::size_t i = 0; i < n; ++i) Encode(least + static_cast<double>(i), base + stride * std::ptrdiff_t(i));
        std::vector<float> got(n);
        const auto d = static_cast<std::size_t>(dtype);
        table.f32.gather[d](reinterpret_cast<const char*>(base), {n, stride * kItem}, 4096, got.data());
        for (std::size_t i = 0; i < n; ++i) {
          Expect(static_cast<double>(got[i]) == least + static_cast<double>(i), "gather of another type", table, 1, n);
        }
        if (!table.f32.scatter[d]) return;
        const std::vector<M> before = memory;
        std::fill(memory.begin(), memory.end(), zero);
        table.f32.scatter[d](got.data(), reinterpret_cast<char*>(base), {n, stride * kItem});
        bool same = true;
        for (std::size_t i = 0; i < memory.size(); ++i) same = same && Decoded(memory[i]) == Decoded(before[i]);
        Expect(same, "scatter to another type", table, 1, n);
      };
      check(std::uint8_t{}, DType::kUInt8, 30);
      check(std::int8_t{}, DType::kInt8, -128);
      check(std::uint16_t{}, DType::kUInt16, 65000);
      check(std::int16_t{}, DType::kInt16, -32768);
      check(Float16{}, DType::kFloat16, -100);
      check(BFloat16{}, DType::kBFloat16, -100);
      std::vector<char> flags(5 * n + 1, 2);
      char* const flag = stride < 0 ? &flags.back() : flags.data();
      for (std::size_t i = 0; i < n; ++i) flag[stride * std::ptrdiff_t(i)] = i * i % 7 % 3 == 1;
      std::vector<std::uint8_t> bytes(n);
      table.u8.gather[static_cast<std::size_t>(DType::kUInt8)](flag, {n, stride}, 4096, bytes.data());
      for (std::size_t i = 0; i < n; ++i) Expect(bytes[i] == (i * i % 7 % 3 == 1), "gather of bytes", table, 1, n);
      for (std::size_t place = 0; place < 8; ++place) {
        std::vector<float> values(n), got(n);
        for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<float>(i * i % 7 % 3) - 1;
        values[0] = std::nanf("");
        std::vector<std::uint8_t> bits(n + 2, 0);
        const std::uintptr_t first = stride < 0 ? 5 * n + place : place;
        char* const at = reinterpret_cast<char*>(reinterpret_cast<std::uintptr_t>(bits.data()) * 8 + first);
        const auto d = static_cast<std::size_t>(DType::kSign);
        table.f32.scatter[d](values.data(), at, {n, stride});
        table.f32.gather[d](at, {n, stride}, 4096, got.data());
        std::size_t set = 0, due = 0;
        for (std::size_t i = 0; i < n; ++i) {
          due += values[i] <= 0 ? 0 : 1;
          Expect(got[i] == (values[i] <= 0 ? -1.0f : 1.0f), "signs", table, 1, n);
        }
        for (std::uint8_t byte : bits) set += static_cast<std::size_t>(__builtin_popcount(byte));
        Expect(set == due, "signs beside those of a run", table, 1, n);
      }
    }
  }
}

template <class T>
void AllTiles(const KernelTable& table) {
  const Kernels<T>& kernels = KernelsOf(table, T{});
  for (std::size_t rows : {1u, 5u, 40u}) {
    for (std::size_t cols = 1; cols <= 70; cols += cols < 18 ? 1 : 5) {
      for (bool planar : {true, false}) {
        for (Source source : {Source::kCache, Source::kMemory}) {
          for (Masked masked : MasksOf<T>(planar)) {
            Sums(table, kernels.walk[planar ? 0 : 1], planar, source, rows, cols, masked);
            if (planar) Channels<T>(table, source, rows, cols, masked);
          }
        }
      }
      for (Kind kind : {Kind::kPlanar, Kind::kPlanarPerRow, Kind::kRows}) {
        for (Source source : {Source::kCache, Source::kMemory, Source::kNext}) {
          for (std::size_t gap : {0u, 3u}) {
            for (Masked masked : MasksOf<T>(kind != Kind::kRows)) Maps<T>(table, kind, source, rows, cols, gap, masked);
          }
        }
      }
    }
  }
  for (Masked masked : MasksOf<T>(true)) {
    Sums(table, kernels.walk[0], true, Source::kMemory, 3, 5000, masked);
    Maps<T>(table, Kind::kPlanar, Source::kMemory, 3, 5000, 3, masked);
  }
  // Several strips of columns, whose rows lie alike.
  for (Masked masked : MasksOf<T>(false)) Maps<T>(table, Kind::kRows, Source::kCache, 9, 1100, 4, masked);
}

template <class T>
void Repeats(const KernelTable& table) {
  for (std::size_t n : {0u, 1u, 7u, 16u, 57u}) {
    for (std::size_t each : {1u, 2u, 3u, 4u, 5u, 17u, 40u}) {
      const Matrix<T> once(1, n, 1);
      Matrix<T> to(1, n * each, 2, kMostLanes);
      const T beyond = to.memory[1 + n * each + kMostLanes];
      KernelsOf(table, T{}).repeat(once.view().data, n, each, to.tile().data);
      bool same = to.memory[1 + n * each + kMostLanes] == beyond;
      for (std::size_t i = 0; i < n * each; ++i) same = same && to.at(0, i) == once.at(0, i / each);
      Expect(same, "repeat", table, n, each);
    }
  }
}

// All values, or every second one, are the byte whose square is the largest, which fills lanes to the brim.
template <class E>
void ByteSums(const KernelTable& table, bool planar, Source source, std::size_t rows, std::size_t cols, bool all) {
  constexpr E kLargest = std::is_unsigned_v<E> ? std::numeric_limits<E>::max() : std::numeric_limits<E>::lowest();
  Matrix<E> x(rows, cols, 1);
  std::mt19937 random(static_cast<unsigned>(rows * cols));
  for (E& value : x.memory) value = all || random() % 2 ? kLargest : static_cast<E>(random());
  const std::size_t sums = planar ? 1 : cols;
  std::vector<double> first(cols + 1, 7), second(cols + 1, 7), want(sums), want2(sums);
  KernelsOf(table, E{}).walk[planar ? 0 : 1].sums(x.view(source), first.data(), second.data());
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < cols; ++c) {
      want[planar ? 0 : c] += x.at(r, c);
      want2[planar ? 0 : c] += x.at(r, c) * x.at(r, c);
    }
  }
  for (std::size_t s = 0; s < sums; ++s)
    Expect(first[s] == want[s] && second[s] == want2[s], "sums", table, rows, cols);
  Expect(first[sums] == 7 && second[sums] == 7, "sums beyond the columns", table, rows, cols);
}

// Bytes have kernels for exact sums and for extremes. Chains of sums end within rows, and between them.
template <class E>
void BytesOf(const KernelTable& table) {
  for (bool planar : {true, false}) {
    for (bool all : {true, false}) {
      ByteSums<E>(table, planar, Source::kMemory, 1, 40001, all);
      ByteSums<E>(table, planar, Source::kCache, 3, 9001, all);
    }
  }
  for (std::size_t rows : {1u, 5u, 40u}) {
    for (std::size_t cols = 1; cols <= 140; cols += cols < 18 ? 1 : 7) {
      for (bool planar : {true, false}) {
        for (Source source : {Source::kCache, Source::kMemory}) {
          Sums(table, KernelsOf(table, E{}).walk[planar ? 0 : 1], planar, source, rows, cols, Masked::kNot);
          for (bool all : {true, false}) {
            ByteSums<E>(table, planar, source, rows, cols, all);
            ByteSums<E>(table, planar, source, 15 * rows, 5 * cols, all);
          }
        }
      }
    }
  }
}

template <class T>
void AllOf(const KernelTable& table) {
  AllTiles<T>(table);
  Runs<T>(table);
}

}  // namespace

int main() {
  for (const std::string& isa : UsableIsas()) {
    SetIsa(isa);
    const KernelTable& table = ActiveKernels();
    AllOf<float>(table);
    AllOf<double>(table);
    if (table.has_half_precisions) {
      AllOf<Float16>(table);
      AllOf<BFloat16>(table);
    }
    Repeats<std::uint8_t>(table);
    Repeats<double>(table);
    BytesOf<std::uint8_t>(table);
    BytesOf<std::int8_t>(table);
    Conversions(table);
    Moves(table);
    std::printf("%s: %s\n", table.name, failures ? "failed" : "ok");
  }
  return failures != 0;
}
