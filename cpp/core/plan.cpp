#include "core/plan.h"

#include <atomic>
#include <limits>
#include <numeric>

#include "dispatch/cpu.h"

namespace batchnorm {
namespace {

// A tile, and at least a chunk: 256 KB of float32, which is read from L2 if it is taken twice. Column sums are folded
// once a block, so tiles of rows are longer, up to 1 MB, where enough chunks are left.
constexpr std::size_t kTileElements = 65536;
constexpr std::size_t kMapTileElements = 16384;                // at least: a map leaves nothing to merge
constexpr std::size_t kFewChunks = 8;                          // for a few threads; larger arrays have more
constexpr std::size_t kLeastRows = 64;                         // of a tile, which stays in L2 if it is gathered
constexpr std::size_t kLeastMapRows = 16;                      // likewise, where there are no sums to fold
constexpr std::size_t kLeastChunkRows = 192;                   // and of wide tiles: merging one costs a column 50 rows
constexpr std::size_t kFewColumns = 512;                       // of a group, where there are too few rows for chunks
constexpr std::size_t kMostColumns = 2048;                     // parameters and sums of one tile stay in L1 and L2
constexpr std::size_t kLeastColumns = 256;                     // the loop over rows of a tile should not show
constexpr std::size_t kTasks = 256;                            // enough for 64 threads to balance
constexpr std::size_t kMostChunks = 128;                       // what they leave is merged by one thread per group
constexpr std::size_t kGroupElements = 16384;                  // small channels are taken together
constexpr std::size_t kCachedBytes = std::size_t{1} << 20;     // of one array in the L2 of a core, beside another
constexpr std::size_t kMapCachedBytes = std::size_t{8} << 20;  // of one array in a shared cache, beside an output
constexpr std::size_t kKeptBytes = std::size_t{4} << 20;       // of one array's gathered tiles, for a thread
constexpr std::size_t kStretch = 8192;                         // 32 KB: partial lines at its ends don't show
constexpr std::size_t kLeastGroups = 32;                       // of channels: eight threads go group by group
constexpr std::size_t kSpanChannels = 512;                     // at 10 to 30 ns each, against 2 us to wake a thread
constexpr std::size_t kPartialBytes = 24;                      // of one channel in one chunk

std::size_t CeilDiv(std::size_t a, std::size_t b) { return (a + b - 1) / b; }
std::size_t RoundUp(std::size_t a, std::size_t multiple) { return CeilDiv(a, multiple) * multiple; }

// So many chunks or somewhat fewer, of which each of a few threads gets as many: 1, 2, 4 or a multiple of kFewChunks.
std::size_t Even(std::size_t chunks) {
  std::size_t step = 1;
  while (step < kFewChunks && 2 * step <= chunks) step *= 2;
  return chunks / step * step;
}

std::size_t DefaultStreamAbove() {
  const std::size_t cache = StreamsFast() ? LastLevelCacheBytes() : 0;
  return cache > 0 ? cache : std::numeric_limits<std::size_t>::max();
}

std::atomic<std::size_t>& StreamAbove() {
  static std::atomic<std::size_t> bytes{DefaultStreamAbove()};
  return bytes;
}

Source SourceOf(std::size_t bytes, std::size_t cached) { return bytes > cached ? Source::kMemory : Source::kCache; }

// Where outputs are never stored past the caches, a group's part of them shares L2 with x and dy. A fifth each
// was measured best on Cascade Lake.
std::size_t DefaultGroupBytes() {
  const std::size_t cache = StreamsFast() ? 0 : SecondLevelCacheBytes();
  return cache > 0 ? cache / 5 : kCachedBytes;
}

std::atomic<std::size_t>& GroupBytes() {
  static std::atomic<std::size_t> bytes{DefaultGroupBytes()};
  return bytes;
}

// Positions in one row of a tile, so that few channels fill vectors and rows are long: 30 channels make rows of 480, 3
// make 288. Few positions rather make more rows: parameters and sums cost by the column.
std::size_t Repeat(std::size_t columns, std::size_t positions) {
  if (columns >= kLeastColumns) return 1;
  const std::size_t step = kMostLanes / std::gcd(columns, kMostLanes);
  const std::size_t wanted = RoundUp(CeilDiv(kLeastColumns, columns), step);
  return std::clamp(RoundUp(positions / kLeastRows, step), step, wanted);
}

}  // namespace

template <class E>
Plan::Plan(const Layout& layout, const Operand<E>& x, Purpose purpose, Company company)
    : walk_(layout.walk), positions_(layout.positions), channels_(layout.channels), inner_(layout.inner) {
  run_ = x.Run();
  const bool alone = company == Company::kNone;
  const bool sums = purpose == Purpose::kSums;
  // Enough chunks for a few threads, where the array is large enough.
  const auto few_elements = [&](std::size_t most) {
    return std::clamp(layout.Values() / kFewChunks, sums ? kTileElements : kMapTileElements, most);
  };
  std::size_t tile_elements, tile_positions, quantum;
  std::size_t fixed_channels;  // in a group, as chunks are counted for it
  if (walk_ == Walk::kPlanar) {
    if (run_ < std::min(kShortRun, positions_)) run_ = 0;
    if (run_ > 0 && x.ChannelsTouch()) map_rows_ = PlanarRows::kChannels;
    const std::size_t small = kGroupElements / std::max<std::size_t>(1, positions_);
    const auto grouped = [&](std::size_t cached_bytes) {
      const std::size_t neighbours = map_rows_ == PlanarRows::kRuns
                                         ? 1
                                         : Neighbours(layout.ValuesPerChannel() * x.ItemSize(), cached_bytes, purpose);
      return std::clamp<std::size_t>(std::max(small, neighbours), 1, channels_);
    };
    fixed_channels = grouped(kCachedBytes);
    group_channels_ = grouped(std::min(kCachedBytes, GroupBytes().load()));
    // Finer groups are mapped from L2, channel by channel: of few short planes, a block each would cost more.
    if (group_channels_ < fixed_channels) map_rows_ = PlanarRows::kRuns;
    tile_positions = kTileElements;
    tile_elements = few_elements(kTileElements);
    quantum = kMostLanes;
  } else {
    const bool few_rows = sums && positions_ < 2 * kLeastChunkRows;
    const std::size_t most = std::max<std::size_t>(1, (few_rows ? kFewColumns : kMostColumns) / inner_);
    const std::size_t whole_vectors = kMostLanes / std::gcd(inner_, kMostLanes);
    const std::size_t step = whole_vectors * inner_ <= kMostColumns ? whole_vectors : 1;
    group_channels_ = channels_ <= most
                          ? channels_
                          : std::min(channels_, RoundUp(CeilDiv(channels_, CeilDiv(channels_, most)), step));
    // What all channels share then has one value per row.
    const bool row_each = !alone && inner_ == 1 && channels_ >= kMostLanes;
    fixed_channels = group_channels_;
    if (group_channels_ == channels_ && !row_each) repeat_ = Repeat(channels_ * inner_, positions_);
    const std::size_t columns = Columns(group_channels_);
    quantum = kMostLanes / std::gcd(kMostLanes, channels_ * inner_ * repeat_) * repeat_;
    // A row of a tile may hold several positions only where they touch.
    const std::size_t least =
        repeat_ > 1 ? std::max(kLeastRows, kTileElements / columns) * repeat_ / 8 : kMostLanes / 2;
    if (run_ < std::min(least, positions_) || (repeat_ > 1 && !x.DensePositions())) run_ = 0;
    // What is gathered, or weights that are repeated for each column, take room in L2 beside the tile.
    const bool beside = run_ == 0 || (company == Company::kWeights && !row_each);
    tile_elements = beside ? kTileElements : few_elements(kMostTileElements);
    const std::size_t least_rows = !sums ? kLeastMapRows : beside ? kLeastRows : kLeastChunkRows;
    tile_positions = std::max(least_rows, tile_elements / columns) * repeat_;
  }
  groups_ = CeilDiv(channels_, group_channels_);
  // Where columns are channels, parameters of some lie beside those of the others. The last group has the fewest.
  const bool columns_are_channels = walk_ == Walk::kRows && inner_ * repeat_ == 1;
  spans_ = columns_are_channels ? std::max<std::size_t>(1, Channels(groups_ - 1) / kSpanChannels) : 1;

  // Where x can't be read in runs, blocks are gathered, in runs of what is written.
  const bool gathered = run_ == 0;
  if (gathered) run_ = layout.plane < kShortRun ? positions_ : layout.plane;
  const std::size_t values = layout.ValuesPerChannel();
  const std::size_t most_memory = std::max<std::size_t>(std::size_t{1} << 20, values * channels_ * x.ItemSize() / 64);
  chunks_ = std::min({CeilDiv(kTasks, CeilDiv(channels_, fixed_channels)), kMostChunks,
                      most_memory / (channels_ * kPartialBytes), values * fixed_channels / tile_elements});
  if (walk_ == Walk::kRows && sums) chunks_ = std::min(chunks_, positions_ / repeat_ / kLeastChunkRows);
  chunks_ = Even(std::max<std::size_t>(1, chunks_));

  // As many pieces for every chunk, where they are pieces of one run.
  pieces_ = CeilDiv(run_, tile_positions);
  if (run_ == positions_) pieces_ = std::max<std::size_t>(1, (pieces_ + chunks_ / 2) / chunks_) * chunks_;
  piece_ = RoundUp(CeilDiv(run_, pieces_), quantum);
  pieces_ = CeilDiv(run_, piece_);
  if (walk_ == Walk::kPlanar && pieces_ == 1) {
    tile_runs_ = std::max<std::size_t>(1, kTileElements / run_);
    runs_at_one_stride_ = gathered ? positions_ / run_ : x.RunsAtOneStride();
  }
  const std::size_t runs = positions_ / run_, units = runs * pieces_;
  // The groups of a run then follow one another, in the order of memory.
  if (!sums && groups_ > 1 && map_rows_ == PlanarRows::kChannels) chunks_ = std::max(chunks_, runs);
  chunks_ = std::min(chunks_, units);
  source_ = SourceOf(values * channels_ * x.ItemSize(), kCachedBytes);
  map_source_ = SourceOf(values * channels_ * x.ItemSize(), kMapCachedBytes);
  group_source_ = SourceOf(values * group_channels_ * x.ItemSize(), kCachedBytes);
  asks_for_next_ = source_ == Source::kMemory && ReadsBesideStores();
  keeps_ = map_rows_ == PlanarRows::kRuns && values * group_channels_ * sizeof(Lane<E>) <= kKeptBytes;
  chunk_units_ = units / chunks_;
  longer_chunks_ = units % chunks_;
}

template Plan::Plan(const Layout&, const Operand<float>&, Purpose, Company);
template Plan::Plan(const Layout&, const Operand<double>&, Purpose, Company);
template Plan::Plan(const Layout&, const Operand<Float16>&, Purpose, Company);
template Plan::Plan(const Layout&, const Operand<BFloat16>&, Purpose, Company);
template Plan::Plan(const Layout&, const Operand<std::uint8_t>&, Purpose, Company);
template Plan::Plan(const Layout&, const Operand<std::int8_t>&, Purpose, Company);

// Channels in a group of the planar walk whose runs touch, so that they make stretches that memory streams. A group
// that is summed first should still be in cache when it is mapped, and leave groups for every thread.
std::size_t Plan::Neighbours(std::size_t channel_bytes, std::size_t cached_bytes, Purpose purpose) const {
  if (purpose == Purpose::kMap) return std::min(kTileElements, positions_ * channels_ / kFewChunks) / run_;
  const std::size_t cached = cached_bytes / std::max<std::size_t>(1, channel_bytes);
  return std::min({CeilDiv(kStretch, run_), cached, channels_ / kLeastGroups});
}

std::size_t Plan::Values(std::size_t chunk) const { return Positions(chunk).second * inner_; }

Storing StoringFor(std::size_t output_bytes, std::size_t read_again_bytes) {
  return {output_bytes + read_again_bytes > StreamAbove() ? StoreKind::kStream : StoreKind::kPlain,
          SourceOf(output_bytes, kMapCachedBytes)};
}

void SetStreamAbove(std::optional<std::size_t> bytes) { StreamAbove() = bytes.value_or(DefaultStreamAbove()); }

void SetGroupBytes(std::optional<std::size_t> bytes) { GroupBytes() = bytes.value_or(DefaultGroupBytes()); }

Workers WorkersFor(std::size_t bytes, Workers workers) {
  constexpr std::size_t kLeastBytes = 65536;  // below this, waking a thread costs more than it saves
  // The partition feeds no more, and OpenMP ends the process where it can't make as many as it is asked for.
  const std::size_t most = std::min<std::size_t>(static_cast<std::size_t>(workers.threads), kTasks);
  return {static_cast<int>(std::clamp<std::size_t>(bytes / kLeastBytes, 1, most)), workers.flush_subnormals};
}

}  // namespace batchnorm
