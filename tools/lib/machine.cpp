#include <trinix/core/backend.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/dtype.h>
#include <trinix/core/error.h>
#include <trinix/tools/lib/machine.h>

namespace trinix::tools {

void require_machine(const TrainConfig& config) {
  static_cast<void>(backend_of(Device::parse(config.device)));
  if (parse_dtype(config.dtype) == DType::f16) {
    detail::fail<ConfigError>("train",
                              "--dtype f16 needs its losses scaled, which this version does not do: use bf16, which "
                              "has the range of f32");
  }
}

}  // namespace trinix::tools
