#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#if defined(_OPENMP)
#include <omp.h>
#elif defined(BATCHNORM_STD_THREADS)
#include <thread>
#include <vector>
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

// Takes tasks until none is left, and keeps the first exception.
class Queue {
 public:
  Queue(std::size_t tasks, const std::function<void(std::size_t, Scratch&)>& body) : tasks_(tasks), body_(body) {}

  void Work() noexcept {
    try {
      Scratch scratch;
      for (std::size_t task = next_++; task < tasks_; task = next_++) body_(task, scratch);
    } catch (...) {
      next_ = tasks_;  // the others stop at their next task
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  void Finish() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const std::size_t tasks_;
  const std::function<void(std::size_t, Scratch&)>& body_;
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace

void ParallelFor(std::size_t tasks, int threads, const std::function<void(std::size_t, Scratch&)>& body) {
  Queue queue(tasks, body);
  const std::size_t wanted = threads < 1 ? 1 : static_cast<std::size_t>(threads);
  [[maybe_unused]] const int workers = serial_child ? 1 : static_cast<int>(std::min(tasks, wanted));
#if defined(_OPENMP)
  if (workers > 1) {
    PrepareForFork();
#pragma omp parallel num_threads(workers)
    queue.Work();
  } else {
    queue.Work();
  }
#elif defined(BATCHNORM_STD_THREADS)
  std::vector<std::thread> pool;
  for (int i = 1; i < workers; ++i) pool.emplace_back([&queue] { queue.Work(); });
  queue.Work();
  for (std::thread& t : pool) t.join();
#else
  queue.Work();
#endif
  queue.Finish();
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
