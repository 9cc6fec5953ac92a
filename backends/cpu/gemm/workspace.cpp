#include <cstdlib>
#include <memory>

#include <trinix/backends/cpu/gemm/workspace.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix::cpu::internal {

namespace {
constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
struct Workspace {
  std::unique_ptr<void, Free> memory;
  std::size_t bytes = 0;
};
}  // namespace

void* thread_workspace(std::size_t bytes) {
  thread_local Workspace own;
  if (bytes <= own.bytes) return own.memory.get();
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : kPage;
  const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  own.memory.reset();
  own.bytes = 0;
  own.memory.reset(std::aligned_alloc(alignment, rounded));
  if (own.memory == nullptr) {
    detail::fail<OutOfMemory>("gemm", "no memory for a workspace of {} bytes: use smaller matrices", rounded);
  }
  own.bytes = rounded;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  // Fewer TLB misses; a refusal changes nothing but speed.
  if (alignment == kHugePage) (void)madvise(own.memory.get(), rounded, MADV_HUGEPAGE);
#endif
  return own.memory.get();
}

}  // namespace trinix::cpu::internal
