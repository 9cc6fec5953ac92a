#include <trinix/backends/cuda/index_check.cuh>
#include <trinix/backends/index.h>
#include <trinix/core/ops/check_index.h>

namespace trinix::cuda {

namespace {

void check_index_forward(const CheckIndex::Forward& args, const Stream& stream) {
  if (args.index.numel() == 0) return;
  const IndexRule rule{.size = args.size, .site = index_fault_site(args.op, args.what)};
  dispatch_index(args.index,
                 [&]<class Index>() { check_indices<Index, float>("check_index", args.index, rule, nullptr, stream); });
}

}  // namespace

void register_check_index() {
  register_kernel<CheckIndex>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, check_index_forward, nullptr});
}

}  // namespace trinix::cuda
