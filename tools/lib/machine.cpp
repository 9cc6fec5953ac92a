#include <trinix/core/backend.h>
#include <trinix/tools/lib/machine.h>

namespace trinix::tools {

void require_machine(const TrainConfig& config) { static_cast<void>(backend_of(Device::parse(config.device))); }

}  // namespace trinix::tools
