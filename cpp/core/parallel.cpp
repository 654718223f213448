#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <vector>

#include "dispatch/cpu.h"

#if defined(_OPENMP)
#include <omp.h>
#elif defined(BATCHNORM_STD_THREADS)
#include <thread>
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
class Queue {
 public:
  Queue(std::size_t tasks, std::size_t workers, bool flush_subnormals, Order order, const Task& body)
      : stretches_(workers), flush_subnormals_(flush_subnormals), order_(order), body_(body) {
    for (std::size_t i = 0; i < workers; ++i) {
      Stretch& s = stretches_[i];
      s.next = tasks * i / workers;
      s.end = tasks * (i + 1) / workers;
      s.ends = s.next + s.end - 1;
    }
  }

  // Runs tasks until none is left, and keeps the first exception.
  void Work(std::size_t worker) noexcept {
    const SubnormalMode mode(flush_subnormals_);
    try {
      Scratch scratch;
      for (std::size_t i = 0; i < stretches_.size(); ++i) {
        Stretch& s = stretches_[(worker + i) % stretches_.size()];
        for (std::size_t task = s.next++; task < s.end; task = s.next++) {
          body_(order_ == Order::kForward ? task : s.ends - task, scratch);
        }
      }
    } catch (...) {
      for (Stretch& s : stretches_) s.next = s.end;  // the others stop at their next task
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

  std::vector<Stretch> stretches_;
  const bool flush_subnormals_;
  const Order order_;
  const Task& body_;
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace

void ParallelFor(std::size_t tasks, Workers of_call, Order order, const Task& body) {
  const std::size_t wanted = of_call.threads < 1 ? 1 : static_cast<std::size_t>(of_call.threads);
  [[maybe_unused]] const std::size_t workers = serial_child ? 1 : std::min(tasks, wanted);
#if defined(_OPENMP) || defined(BATCHNORM_STD_THREADS)
  if (workers > 1) {
    Queue queue(tasks, workers, of_call.flush_subnormals, order, body);
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
  for (std::size_t i = 0; i < tasks; ++i) body(order == Order::kForward ? i : tasks - 1 - i, scratch);
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
