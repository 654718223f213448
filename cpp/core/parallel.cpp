#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "dispatch/cpu.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#include <pthread.h>
#endif

namespace batchnorm {

namespace {

std::atomic<int> set_threads{0};
std::atomic<bool> serial_child{false};  // Note [Fork]

// Note [Fork]
// A child of fork has one thread, and libgomp in it waits for ever for the workers that the parent had. Giving the
// workers back before the fork (omp_pause_resource_all, OpenMP 5.0) lets both sides start anew. It is looked up at run
// time, because another package may have loaded an older runtime under the same name; without it the child runs serial.
#if defined(_OPENMP) && (defined(__unix__) || defined(__APPLE__))
using PauseFunction = int (*)(int);

PauseFunction PauseResources() {
  static const PauseFunction pause = reinterpret_cast<PauseFunction>(dlsym(RTLD_DEFAULT, "omp_pause_resource_all"));
  return pause;
}

std::atomic<bool> used_threads{false};

void BeforeFork() {
  constexpr int kSoft = 1;  // omp_pause_soft
  if (used_threads && PauseResources()) PauseResources()(kSoft);
}

void InChild() {
  if (used_threads && !PauseResources()) serial_child = true;
}

void PrepareForFork() {
  static const int registered = pthread_atfork(&BeforeFork, nullptr, &InChild);
  (void)registered;
  (void)PauseResources();
  used_threads = true;
}
#else
[[maybe_unused]] void PrepareForFork() {}
#endif

// Note [Stretches]
// Every worker begins with a stretch of tasks of its own, the same one in every sweep and every call, so that a core
// finds what it touched last in its own caches. Whoever is done takes from the stretches of the others.
//
// Note [Steps]
// All steps of a call share one parallel region, because waking and joining threads takes as long as a small step does.
// A worker that finds no task left waits until the tasks that others have taken are done. It counts tasks and not
// workers, so that a runtime may give fewer threads than it is asked for, and one of them may come late.
class Queue {
 public:
  Queue(const std::vector<Step>& steps, std::size_t workers, bool flush_subnormals)
      : steps_(steps),
        workers_(workers),
        flush_subnormals_(flush_subnormals),
        stretches_(steps.size() * workers),
        done_(steps.size()) {
    for (std::size_t i = 0; i < stretches_.size(); ++i) {
      const std::size_t tasks = steps[i / workers].tasks, worker = i % workers;
      Stretch& s = stretches_[i];
      s.next = tasks * worker / workers;
      s.end = tasks * (worker + 1) / workers;
      s.ends = s.next + s.end - 1;
    }
  }

  // Runs tasks until none is left, and keeps the first exception.
  void Work(std::size_t worker) noexcept {
    const SubnormalMode mode(flush_subnormals_);
    try {
      Scratch scratch;
      for (std::size_t step = 0; step < steps_.size() && !failed_; ++step) {
        if (step > 0) WaitFor(step - 1);
        done_[step].tasks += Take(step, worker, scratch);
      }
    } catch (...) {
      for (Stretch& s : stretches_) s.next = s.end;  // the others stop at their next task
      failed_ = true;
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  void Finish() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  struct alignas(64) Stretch {  // a line of cache each
    std::atomic<std::size_t> next{0};
    std::size_t end = 0;
    std::size_t ends = 0;  // the sum of its first and its last task
  };
  struct alignas(64) Done {
    std::atomic<std::size_t> tasks{0};
  };

  // Runs tasks of a step while there are any, and returns how many.
  std::size_t Take(std::size_t step, std::size_t worker, Scratch& scratch) {
    const Step& of = steps_[step];
    Stretch* stretches = stretches_.data() + step * workers_;
    std::size_t taken = 0;
    for (std::size_t i = 0; i < workers_; ++i) {
      Stretch& s = stretches[(worker + i) % workers_];
      for (std::size_t task = s.next++; task < s.end; task = s.next++) {
        of.body(of.order == Order::kForward ? task : s.ends - task, scratch);
        ++taken;
      }
    }
    return taken;
  }

  // Until all tasks of a step are done, or one has failed. Gives the core away where that takes long: another worker
  // may need it.
  void WaitFor(std::size_t step) const {
    constexpr std::size_t kSpins = 20000;  // some 50 us
    for (std::size_t spins = 0; done_[step].tasks < steps_[step].tasks && !failed_; ++spins) {
      if (spins >= kSpins) std::this_thread::yield();
    }
  }

  const std::vector<Step>& steps_;
  const std::size_t workers_;
  const bool flush_subnormals_;
  std::vector<Stretch> stretches_;  // of each step, those of the workers
  std::vector<Done> done_;
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace

void RunSteps(const std::vector<Step>& steps, Workers of_call) {
  const std::size_t wanted = of_call.threads < 1 ? 1 : static_cast<std::size_t>(of_call.threads);
  std::size_t most = 0;
  for (const Step& step : steps) most = std::max(most, step.tasks);
  [[maybe_unused]] const std::size_t workers = serial_child ? 1 : std::min(most, wanted);
#if defined(_OPENMP) || defined(BATCHNORM_STD_THREADS)
  if (workers > 1) {
    Queue queue(steps, workers, of_call.flush_subnormals);
#if defined(_OPENMP)
    PrepareForFork();
#pragma omp parallel num_threads(static_cast<int>(workers))
    queue.Work(static_cast<std::size_t>(omp_get_thread_num()));
#else
    std::vector<std::thread> pool;
    for (std::size_t i = 1; i < workers; ++i) pool.emplace_back([&queue, i] { queue.Work(i); });
    queue.Work(0);
    for (std::thread& t : pool) t.join();
#endif
    queue.Finish();
    return;
  }
#endif
  const SubnormalMode mode(of_call.flush_subnormals);
  Scratch scratch;
  for (const Step& step : steps) {
    for (std::size_t i = 0; i < step.tasks; ++i) {
      step.body(step.order == Order::kForward ? i : step.tasks - 1 - i, scratch);
    }
  }
}

int DefaultThreads() {
  if (const int set = set_threads.load()) return set;
#if defined(_OPENMP)
  return omp_get_max_threads();
#elif defined(BATCHNORM_STD_THREADS)
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
#else
  return 1;
#endif
}

void SetThreads(int threads) { set_threads = threads; }

std::string ParallelRuntime() {
#if defined(_OPENMP)
  return "OpenMP " + std::to_string(_OPENMP);
#elif defined(BATCHNORM_STD_THREADS)
  return "std::thread";
#else
  return "";
#endif
}

}  // namespace batchnorm
