#include <mutex>

#include <trinix/backends/cpu/backend.h>
#if defined(TRINIX_WITH_CUDA)
#include <trinix/backends/cuda/backend.h>
#endif
#include <trinix/core/backend.h>

namespace trinix {

// Declared in core, where it is called on first use; defined here, because only this folder knows every backend. A
// function call instead of static registrars: those vanish from a static archive when nothing else refers to them.
void initialize() {
  static std::once_flag once;
  std::call_once(once, [] {
    cpu::register_backend_and_kernels();
#if defined(TRINIX_WITH_CUDA)
    cuda::register_backend_and_kernels();
#endif
  });
}

}  // namespace trinix
