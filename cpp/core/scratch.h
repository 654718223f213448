// Memory for what doesn't outlive a task.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace batchnorm {

// Memory that one worker reuses from task to task. Slots are independent; a slot's content is undefined when it is got.
class Scratch {
 public:
  enum Slot { kX, kDy, kOut, kPivot, kColumns, kSums, kKept, kPartials, kParameters, kSlots };

  template <class T>
  T* Get(Slot slot, std::size_t count) {
    return static_cast<T*>(GetBytes(slot, count * sizeof(T)));
  }

 private:
  struct Free {
    void operator()(void* p) const { ::operator delete(p, std::align_val_t{kAlignment}); }
  };
  static constexpr std::size_t kAlignment = 64;  // a cache line, and the widest vector

  void* GetBytes(Slot slot, std::size_t bytes) {
    if (bytes > bytes_[slot]) {
      memory_[slot].reset();
      bytes_[slot] = 0;
      memory_[slot].reset(::operator new(bytes, std::align_val_t{kAlignment}));
      bytes_[slot] = bytes;
    }
    return memory_[slot].get();
  }

  std::unique_ptr<void, Free> memory_[kSlots];
  std::size_t bytes_[kSlots] = {};
};

}  // namespace batchnorm
