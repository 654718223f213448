// Memory for what doesn't outlive a task.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <new>

namespace batchnorm {

// Memory that one worker reuses from task to task. Slots are independent; a slot's content is undefined when it is got.
class Scratch {
 public:
  enum Slot {
    kX,
    kDy,
    kY,
    kOut,
    kResidual,
    kSecondOut,
    kShared,
    kPlaces,
    kPivot,
    kColumns,
    kSums,
    kKept,
    kGroup,
    kSlots
  };

  template <class T>
  T* Get(Slot slot, std::size_t count) {
    return static_cast<T*>(GetBytes(slot, count * sizeof(T)));
  }

  // Whose values a slot keeps (Note [Kept tiles] in view.h); 0 if nobody's.
  std::size_t& Keeps(Slot slot) { return keeps_[slot]; }
  // Of which positions kShared holds an array (core/shared.h): first, number, channels; all 0 if of none.
  std::array<std::size_t, 3>& Shared() { return shared_; }

 private:
  struct Free {
    void operator()(void* p) const { ::operator delete(p, std::align_val_t{kAlignment}); }
  };
  static constexpr std::size_t kAlignment = 64;  // a cache line, and the widest vector

  void* GetBytes(Slot slot, std::size_t bytes) {
    if (bytes > bytes_[slot]) {
      const std::size_t room = (bytes + kAlignment - 1) / kAlignment * kAlignment;
      if (room <= kNear - near_used_) {
        found_[slot] = near_ + near_used_;
        near_used_ += room;
      } else {
        far_[slot].reset();
        bytes_[slot] = 0;
        far_[slot].reset(::operator new(bytes, std::align_val_t{kAlignment}));
        found_[slot] = far_[slot].get();
      }
      bytes_[slot] = bytes;
    }
    return found_[slot];
  }

  // All that a small call needs lies in the worker's stack: allocating it would take a fifth of the call.
  static constexpr std::size_t kNear = 16384;
  alignas(kAlignment) std::byte near_[kNear];
  std::size_t near_used_ = 0;
  std::unique_ptr<void, Free> far_[kSlots];
  void* found_[kSlots] = {};
  std::size_t bytes_[kSlots] = {};
  std::size_t keeps_[kSlots] = {};
  std::array<std::size_t, 3> shared_ = {};
};

}  // namespace batchnorm
