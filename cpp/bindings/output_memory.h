// Where fresh outputs lie.
//
// Note [Kept memory]: the system clears every page that it hands out, which for an array beyond the allocator's own
// reach (32 MB in glibc) costs as much as normalizing it, each time anew. So the memory of large outputs that are freed
// is kept for the next ones of the same size. It is marked as free to take (MADV_FREE): a system that needs memory
// takes it, and gives clear pages when it is used again. Only what the library made itself passes through here, by
// NumPy's interface for allocators (NEP 49), so that arrays own their data as any other array does.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <optional>

namespace batchnorm::bindings {

// While it lives, arrays of `bytes` that this thread makes take their memory from what is kept. Needs the GIL.
class OutputMemory {
 public:
  explicit OutputMemory(std::size_t bytes);
  OutputMemory(const OutputMemory&) = delete;
  ~OutputMemory();

 private:
  pybind11::object before_;  // null where NumPy allocates as usual
};

// The most bytes that are kept; nothing for the default, a part of the machine's memory.
void SetKeptMost(std::optional<std::size_t> bytes);
std::size_t KeptBytes();
bool KeepsMemory();  // on this system, in this build

}  // namespace batchnorm::bindings
