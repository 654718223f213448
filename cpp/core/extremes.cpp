// Minimum and maximum per channel.
#include <algorithm>
#include <limits>

#include "core/batch_norm.h"
#include "core/map.h"
#include "core/shared.h"
#include "dispatch/dispatch.h"

namespace batchnorm {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The least and the greatest value of each chunk, in place of a job's sums.
template <class E>
class ExtremeReducer {
  using T = Lane<E>;

 public:
  std::size_t fields() const { return 2; }
  std::size_t columns() const { return 0; }

  ExtremeReducer(const Plan& plan, const KernelTable& table, const Operand<E>& x, const Mask& mask)
      : plan_(plan), kernels_(KernelsFor<E>(plan, table)), x_(x), mask_(mask) {}

  void Prepare(Group<T>&, Scratch&) const {}

  void operator()(const Group<T>& group, std::size_t chunk, const Sweep& sweep, Scratch& scratch) const {
    double *low = group.Partial(chunk), *high = low + group.channels;
    std::fill_n(low, group.channels, kInfinity);
    std::fill_n(high, group.channels, -kInfinity);
    const std::size_t columns = plan_.Columns(group.channels);
    T *lows = scratch.Get<T>(Scratch::kPivot, 2 * columns), *highs = lows + columns;
    plan_.ForEachBlock(group.index, chunk, sweep, [&](const Block& block) {
      const std::size_t found = plan_.walk() == Walk::kPlanar ? block.channels : block.cols;
      std::fill_n(lows, found, static_cast<T>(kInfinity));
      std::fill_n(highs, found, static_cast<T>(-kInfinity));
      kernels_.extremes(x_.Read(block, scratch, Scratch::kX), mask_.Read(block, scratch), lows, highs);
      const std::size_t first = block.channel - group.first;
      for (std::size_t j = 0; j < found; ++j) {
        const std::size_t c = first + j / plan_.inner() % block.channels;
        low[c] = std::min(low[c], static_cast<double>(lows[j]));
        high[c] = std::max(high[c], static_cast<double>(highs[j]));
      }
    });
  }

  // done(channel, low, high)
  template <class Done>
  void Finish(const Group<T>& group, Done done) const {
    for (std::size_t c = group.span.begin; c < group.span.end; ++c) {
      double low = kInfinity, high = -kInfinity;
      for (std::size_t k = 0; k < plan_.chunks(); ++k) {
        low = std::min(low, group.Partial(k)[c]);
        high = std::max(high, group.Partial(k)[group.channels + c]);
      }
      done(group.first + c, low, high);
    }
  }

 private:
  const Plan& plan_;
  const WalkKernels<E>& kernels_;
  const Operand<E>& x_;
  const Mask& mask_;
};

}  // namespace

void ChannelExtremes(const ArrayView& x, std::size_t axis, const ArrayView* mask, Workers workers, double* low,
                     double* high) {
  const Layout layout = LayoutOf(x, axis, Purpose::kSums);
  if (layout.Values() == 0) {
    std::fill_n(low, layout.channels, kInfinity);
    std::fill_n(high, layout.channels, -kInfinity);
    return;
  }
  const KernelTable& table = ActiveKernels();
  VisitSummed(SumsDType(table, x, mask), [&](auto zero) {
    using E = decltype(zero);
    const Operand<E> source(x, layout, table);
    const Plan plan(layout, source, Purpose::kSums, CompanyOf(mask));
    const Workers several = WorkersFor(BytesOf(x), workers);
    const Mask masked(mask, layout, table, several);
    const ExtremeReducer<E> reducer(plan, table, source, masked);
    const auto finish = [&](const Group<Lane<E>>& group) {
      reducer.Finish(group, [&](std::size_t c, double channel_low, double channel_high) {
        low[c] = channel_low;
        high[c] = channel_high;
      });
    };
    RunSweeps<Lane<E>>(plan, several, reducer, finish, NoMap{});
  });
}

}  // namespace batchnorm
