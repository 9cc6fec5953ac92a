#include <mutex>

#include <trinix/backends/cpu/backend.h>
#include <trinix/core/backend.h>

namespace trinix {

// Declared in core, where it is called on first use; defined here, because only this folder knows every backend. A
// function call instead of static registrars: those vanish from a static archive when nothing else refers to them.
void initialize() {
  static std::once_flag once;
  std::call_once(once, [] { cpu::register_backend_and_kernels(); });
}

}  // namespace trinix
