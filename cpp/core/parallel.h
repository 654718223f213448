// Running tasks on threads. The only door to OpenMP. Which thread runs a task never changes what it computes.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <new>

namespace batchnorm {

// Memory that one worker reuses from task to task. Slots are independent; a slot's content is undefined when it is got.
class Scratch {
 public:
  enum Slot { kX, kDy, kOut, kPivot, kColumns, kSums, kKept, kState, kParameters, kSlots };

  template <class T>
  T* Get(Slot slot, std::size_t count) {
    return static_cast<T*>(GetBytes(slot, count * sizeof(T)));
  }

 private:
  struct Free {
    void operator()(void* p) const { ::operator delete(p, std::align_val_t{kAlignment}); }
  };
  static constexpr std::size_t kAlignment = 64;  // a cache line, and the widest vector

  void* GetBytes(Slot slot, std::size_t bytes);

  std::unique_ptr<void, Free> memory_[kSlots];
  std::size_t bytes_[kSlots] = {};
};

// Runs body(task, scratch) for every task in [0, tasks) on at most `threads` threads. The first exception that a task
// throws is thrown here, after all workers have stopped.
void ParallelFor(std::size_t tasks, int threads, const std::function<void(std::size_t, Scratch&)>& body);

// Threads that a call uses when it isn't told: SetThreads, else the runtime's own default at this moment.
int DefaultThreads();
// 0 goes back to the runtime's default.
void SetThreads(int threads);

// Name and version of the runtime, or nullptr where tasks run serially.
const char* ParallelRuntime();

}  // namespace batchnorm
