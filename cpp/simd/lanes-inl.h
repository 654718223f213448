// Which lanes of a vector an operation touches. Included inside an ISA namespace.
#pragma once

#include <cstddef>
#include <cstdint>

namespace batchnorm::BATCHNORM_ISA {
namespace {

struct All {};  // every lane

struct First {  // lanes 0 .. count - 1, 0 < count < Lanes
  std::size_t count;
};

}  // namespace
}  // namespace batchnorm::BATCHNORM_ISA
