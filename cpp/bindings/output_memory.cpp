#include "bindings/output_memory.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>

#if defined(__linux__) && !defined(BATCHNORM_SANITIZED)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace batchnorm::bindings {
namespace py = pybind11;

#if defined(__linux__) && !defined(BATCHNORM_SANITIZED) && defined(MADV_FREE) && defined(MADV_HUGEPAGE)
namespace {

constexpr std::size_t kLeast = std::size_t{32} << 20;  // glibc keeps smaller ones itself (M_MMAP_THRESHOLD_MAX)
constexpr std::size_t kHugePage = std::size_t{2} << 20;

// What a block begins with, a line of cache before the data. It lies in a page that isn't marked as free to take.
struct Header {
  std::size_t bytes;  // of the whole block
};
constexpr std::size_t kHeader = 64, kPage = 4096;

std::size_t BlockOf(std::size_t bytes) { return (kHeader + bytes + kHugePage - 1) / kHugePage * kHugePage; }

std::size_t DefaultMost() {
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  return pages > 0 && page > 0 ? static_cast<std::size_t>(pages) / 16 * static_cast<std::size_t>(page) : 0;
}

// Blocks whose arrays are gone, newest last. Whoever finds it busy, in another thread or in a child that was forked
// meanwhile, does without.
class Kept {
 public:
  // A block of this size, or null.
  Header* Take(std::size_t bytes) {
    if (busy_.test_and_set(std::memory_order_acquire)) return nullptr;
    Header* found = nullptr;
    for (std::size_t i = count_; i-- > 0 && !found;) {
      if (blocks_[i]->bytes == bytes) found = Remove(i);
    }
    busy_.clear(std::memory_order_release);
    return found;
  }

  // Takes a block over, at the cost of the oldest ones.
  void Give(Header* block) {
    const std::size_t bytes = block->bytes, most = most_.load(std::memory_order_relaxed);
    const bool fits = bytes <= most && madvise(reinterpret_cast<char*>(block) + kPage, bytes - kPage, MADV_FREE) == 0;
    if (!fits || busy_.test_and_set(std::memory_order_acquire)) {
      munmap(block, bytes);
      return;
    }
    Shrink(most - bytes, kBlocks - 1);
    blocks_[count_++] = block;
    bytes_ += bytes;
    busy_.clear(std::memory_order_release);
  }

  void SetMost(std::size_t bytes) {
    most_.store(bytes, std::memory_order_relaxed);
    if (busy_.test_and_set(std::memory_order_acquire)) return;
    Shrink(bytes, kBlocks);
    busy_.clear(std::memory_order_release);
  }

  std::size_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::size_t kBlocks = 64;  // a network has fewer outputs of this size

  Header* Remove(std::size_t i) {
    Header* const block = blocks_[i];
    bytes_ -= block->bytes;
    for (--count_; i < count_; ++i) blocks_[i] = blocks_[i + 1];
    return block;
  }

  void Shrink(std::size_t most_bytes, std::size_t most_blocks) {
    while (count_ > 0 && (bytes() > most_bytes || count_ > most_blocks)) {
      Header* const oldest = Remove(0);
      munmap(oldest, oldest->bytes);
    }
  }

  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  std::atomic<std::size_t> most_{DefaultMost()}, bytes_{0};
  Header* blocks_[kBlocks] = {};
  std::size_t count_ = 0;
};

Kept& TheKept() {
  static Kept* const kept = new Kept;  // arrays may be freed while the process ends
  return *kept;
}

// A new block, at the boundary of a huge page, or null.
Header* Map(std::size_t bytes) {
  void* const mapped = mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* const start = static_cast<char*>(mapped);
  const std::size_t head = (kHugePage - reinterpret_cast<std::uintptr_t>(start) % kHugePage) % kHugePage;
  if (head > 0) munmap(start, head);
  munmap(start + head + bytes, kHugePage - head);
  madvise(start + head, bytes, MADV_HUGEPAGE);
  auto* const block = reinterpret_cast<Header*>(start + head);
  block->bytes = bytes;
  return block;
}

Header* BlockAt(void* data) { return reinterpret_cast<Header*>(static_cast<char*>(data) - kHeader); }

// What NumPy calls. The arrays that ask are large, but may be resized to any size.
void* Malloc(void*, std::size_t bytes) {
  if (bytes > PTRDIFF_MAX - 2 * kHugePage) return nullptr;
  Header* block = TheKept().Take(BlockOf(bytes));
  if (!block) block = Map(BlockOf(bytes));
  return block ? reinterpret_cast<char*>(block) + kHeader : nullptr;
}

void Free(void*, void* data, std::size_t) {
  if (data) TheKept().Give(BlockAt(data));
}

void* Calloc(void* context, std::size_t count, std::size_t size) {
  if (size > 0 && count > SIZE_MAX / size) return nullptr;
  void* const data = Malloc(context, count * size);
  if (data) std::memset(data, 0, count * size);
  return data;
}

void* Realloc(void* context, void* data, std::size_t bytes) {
  void* const moved = Malloc(context, bytes);
  if (!moved || !data) return moved;
  std::memcpy(moved, data, std::min(BlockAt(data)->bytes - kHeader, bytes));
  Free(context, data, 0);
  return moved;
}

// NumPy's PyDataMem_Handler, version 1.
struct Handler {
  char name[127] = "batchnorm_kept_memory";
  std::uint8_t version = 1;
  struct {
    void* context = nullptr;
    void* (*malloc)(void*, std::size_t) = Malloc;
    void* (*calloc)(void*, std::size_t, std::size_t) = Calloc;
    void* (*realloc)(void*, void*, std::size_t) = Realloc;
    void (*free)(void*, void*, std::size_t) = Free;
  } allocator;
};

// Makes `handler` the one of this thread's context; returns the one before, or null with Python's error set.
PyObject* SetHandler(const py::object& handler) {
  using Function = PyObject* (*)(PyObject*);
  constexpr std::size_t kSetHandler = 304;  // PyDataMem_SetHandler in NumPy's table, since 1.22
  static void** const table = [] {
    const py::object api = py::detail::import_numpy_core_submodule("multiarray").attr("_ARRAY_API");
    return static_cast<void**>(PyCapsule_GetPointer(api.ptr(), nullptr));
  }();
  return reinterpret_cast<Function>(table[kSetHandler])(handler.ptr());
}

}  // namespace

OutputMemory::OutputMemory(std::size_t bytes) {
  if (bytes < kLeast) return;
  static Handler handler;
  before_ = py::reinterpret_steal<py::object>(SetHandler(py::capsule(&handler, "mem_handler")));
  if (!before_) throw py::error_already_set();
}

OutputMemory::~OutputMemory() {
  if (!before_) return;
  PyObject* const ours = SetHandler(before_);
  if (!ours) PyErr_WriteUnraisable(before_.ptr());
  Py_XDECREF(ours);
}

void SetKeptMost(std::optional<std::size_t> bytes) { TheKept().SetMost(bytes.value_or(DefaultMost())); }
std::size_t KeptBytes() { return TheKept().bytes(); }
bool KeepsMemory() { return true; }

#else

OutputMemory::OutputMemory(std::size_t) {}
OutputMemory::~OutputMemory() = default;
void SetKeptMost(std::optional<std::size_t>) {}
std::size_t KeptBytes() { return 0; }
bool KeepsMemory() { return false; }

#endif

}  // namespace batchnorm::bindings
