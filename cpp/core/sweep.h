// The order of work that every job shares: sums over blocks, their merge, then a map over the same values.
#pragma once

#include <algorithm>
#include <tuple>
#include <type_traits>
#include <vector>

#include "core/conditions.h"
#include "core/group.h"
#include "core/parallel.h"

namespace batchnorm {

// A job has two halves, either of which may be missing (NoSums, NoMap):
//     sums.fields(), sums.columns()      float64 per channel and chunk; elements per column that the chunks start from
//     sums.Prepare(group, scratch)       fills group.start of group.span
//     sums(group, chunk, sweep, scratch) fills group.Partial(chunk)
//     sums.Finish(group, done)           merges the chunks, and hands what they give to done, channel by channel, of
//                                        group.span
//     finish(group)                      calls sums.Finish
//     map.columns(), map.lead()          parameters that its kernel takes; where the output lies, Operand::Lead
//     map.Prepare(group)                 fills group.map of group.span, after finish
//     map(group, chunk, sweep, scratch)  writes the output
struct NoSums {
  std::size_t fields() const { return 0; }
  std::size_t columns() const { return 0; }
  template <class T>
  void Prepare(Group<T>&, Scratch&) const {}
  template <class T>
  void operator()(const Group<T>&, std::size_t, const Sweep&, Scratch&) const {}
};

struct NoMap {
  std::size_t columns() const { return 0; }
  std::size_t lead() const { return 0; }
  template <class T>
  void Prepare(Group<T>&) const {}
  template <class T>
  void operator()(const Group<T>&, std::size_t, const Sweep&, Scratch&) const {}
};

// Runs a job, group by group where there are groups for every thread: what was summed may then still be in cache when
// it is mapped. Otherwise step by step, every step over all chunks; a map alone goes in the order of memory.
template <class T, class Sums, class Finish, class Map>
void RunSweeps(const Plan& plan, Workers workers, const Sums& sums, Finish finish, const Map& map) {
  constexpr bool kSums = !std::is_same_v<Sums, NoSums>, kMap = !std::is_same_v<Map, NoMap>;
  const std::size_t groups = plan.groups(), chunks = plan.chunks();
  const GroupRoom<T> room(plan, sums.fields(), sums.columns(), map.columns(), map.lead());
  if (chunks == 1 || (kSums && groups >= 4 * static_cast<std::size_t>(workers.threads))) {
    const auto run = [&](std::size_t g, Scratch& scratch) {
      Group<T> group = room.At(scratch.Get<std::byte>(Scratch::kGroup, room.bytes()), g);
      sums.Prepare(group, scratch);
      for (std::size_t k = 0; kSums && k < chunks; ++k)
        sums(group, k, kMap ? plan.GroupFirst() : plan.First(), scratch);
      finish(group);
      map.Prepare(group);
      const Sweep sweep = kSums ? plan.GroupAgain(g + 1 < groups ? 1 : 0) : plan.Once();
      for (std::size_t k = chunks; kMap && k-- > 0;) map(group, k, sweep, scratch);
    };
    RunSteps({{groups, Order::kForward, run}}, workers);
    return;
  }
  Scratch of_all;
  std::byte* memory = of_all.Get<std::byte>(Scratch::kGroup, room.bytes() * groups);
  const auto group_at = [&](std::size_t g) { return room.At(memory + g * room.bytes(), g); };
  const std::size_t spans = plan.spans();
  const auto span_at = [&](std::size_t task) {
    Group<T> group = group_at(task / spans);
    group.span = plan.SpanOf(group.index, task % spans);
    return group;
  };
  const auto prepare = [&](std::size_t task, Scratch& scratch) {
    Group<T> group = span_at(task);
    sums.Prepare(group, scratch);
  };
  const auto sum = [&](std::size_t task, Scratch& scratch) {
    sums(group_at(task / chunks), task % chunks, plan.First(), scratch);
  };
  const auto finish_and_prepare = [&](std::size_t task, Scratch&) {
    Group<T> group = span_at(task);
    finish(group);
    map.Prepare(group);
  };
  const auto write = [&](std::size_t task, Scratch& scratch) {
    if constexpr (kSums) {
      map(group_at(task / chunks), task % chunks, plan.Again(), scratch);
    } else {
      map(group_at(task % groups), task / groups, plan.Once(), scratch);  // as they lie in memory
    }
  };
  std::vector<Step> steps;
  if (kSums) {
    steps.push_back({groups * spans, Order::kForward, prepare});
    steps.push_back({groups * chunks, Order::kForward, sum});
  }
  steps.push_back({groups * spans, Order::kForward, finish_and_prepare});
  // What was summed last is in cache.
  if (kMap) steps.push_back({groups * chunks, kSums ? Order::kBackward : Order::kForward, write});
  RunSteps(steps, workers);
}

// Sums of a block: a kernel gives one per column, and they are folded to one per channel.
class BlockSums {
 public:
  BlockSums(const Plan& plan, std::size_t group, Scratch& scratch)
      : inner_(plan.inner()),
        columns_(plan.Columns(plan.Channels(group))),
        folds_(columns_ != plan.Channels(group)),
        data_(scratch.Get<double>(Scratch::kSums, 4 * columns_)) {}

  double* first_columns() { return data_; }
  double* second_columns() { return data_ + columns_; }

  // Sums per channel of the block, after Fold.
  double* first() { return data_ + (folds_ ? 2 * columns_ : 0); }
  double* second() { return first() + columns_; }

  void Fold(const Block& block) {
    if (!folds_) return;
    for (std::size_t side = 0; side < 2; ++side) Fold(block, data_ + side * columns_, data_ + (2 + side) * columns_);
  }

 private:
  void Fold(const Block& block, const double* columns, double* channels) const {
    std::fill_n(channels, block.channels, 0.0);
    for (const double* end = columns + block.cols; columns < end;) {
      for (std::size_t c = 0; c < block.channels; ++c, columns += inner_) channels[c] += SumOf(columns, inner_);
    }
  }

  // In four chains: one would wait for every addition.
  static double SumOf(const double* values, std::size_t n) {
    double s[4] = {};
    std::size_t i = 0;
    for (; i + 4 <= n; i += 4) {
      for (std::size_t k = 0; k < 4; ++k) s[k] += values[i + k];
    }
    for (; i < n; ++i) s[0] += values[i];
    return (s[0] + s[1]) + (s[2] + s[3]);
  }

  std::size_t inner_, columns_;
  bool folds_;  // a channel has several columns
  double* data_;
};

// Takes the sums of a block of n channels in lanes of `precision`, and leaves them in `sums`, one array per field.
// Where a channel's sums leave the range of narrow lanes, takes the block again in wide ones; channels in range keep
// what they have, so that what a channel gets depends on its own values alone.
template <class Take, class OutOfRange, class... Sum>
void TakeInRange(Precision precision, std::size_t n, Scratch& scratch, Take take, OutOfRange out_of_range,
                 Sum*... sums) {
  take(precision);
  if (precision == Precision::kWide || !Any(n, [&](std::size_t c) { return out_of_range(sums[c]...); })) return;
  auto* kept = scratch.Get<std::tuple<Sum...>>(Scratch::kKept, n);
  for (std::size_t c = 0; c < n; ++c) kept[c] = {sums[c]...};
  take(Precision::kWide);
  for (std::size_t c = 0; c < n; ++c) {
    if (std::apply(out_of_range, kept[c]) == 0) std::tie(sums[c]...) = kept[c];
  }
}

template <class E>
const WalkKernels<E>& KernelsFor(const Plan& plan, const KernelTable& table) {
  return KernelsOf(table, E{}).walk[static_cast<std::size_t>(plan.walk())];
}

}  // namespace batchnorm
