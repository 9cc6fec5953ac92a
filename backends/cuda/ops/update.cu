#include <algorithm>
#include <vector>

#include <trinix/backends/cuda/launch.cuh>
#include <trinix/backends/cuda/table.h>
#include <trinix/backends/cuda/update/update.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix::cuda {

namespace {

/// Elements of one block: enough for its start not to show, half a megabyte of traffic; fewer where that would leave
/// the places on the card unevenly filled.
std::int64_t elements_per_block(std::int64_t total, const Stream& stream) {
  constexpr std::int64_t kFewest = 4096, kMost = 16384, kStep = 1024;
  constexpr std::int64_t kBlocksPerPlace = 8;
  const std::int64_t places = std::int64_t{multiprocessors(stream)} * 4;
  return std::clamp(total / (places * kBlocksPerPlace) / kStep * kStep, kFewest, kMost);
}

/// Rows of one block; each of its warps takes every eighth.
constexpr int kRowsPerBlock = 64;

UpdateTypes types_of(const UpdateItem& item) {
  const DType p = item.param.dtype;
  const DType g = item.grad.dtype;
  const bool narrow = p == DType::f32 && g == DType::bf16;
  if (!is_floating(p) || (g != p && g != compute_type(p) && !narrow)) {
    trinix::detail::fail<DtypeError>("update", "a gradient of {} does not fit a parameter of {}", g, p);
  }
  if (p == DType::f64) return UpdateTypes::f64;
  if (p == DType::f32) return narrow ? UpdateTypes::f32_narrow : UpdateTypes::f32;
  const bool master = item.master.data != nullptr;
  if (p == DType::f16) {
    if (g == p) return master ? UpdateTypes::f16_master : UpdateTypes::f16;
    return master ? UpdateTypes::f16_wide_master : UpdateTypes::f16_wide;
  }
  const int first = static_cast<int>(g == p ? UpdateTypes::bf16 : UpdateTypes::bf16_wide);
  return static_cast<UpdateTypes>(first + (master ? 1 : (item.stochastic ? 2 : 0)));
}

void add_rows(std::vector<UpdateRow>& rows, const UpdateItem& item, std::int64_t length) {
  const UpdateTypes types = types_of(item);
  for (std::int64_t begin = 0; begin < item.param.count; begin += length) {
    const auto at = [begin](const Flat& t) -> char* {
      return t.data == nullptr ? nullptr : t.as<char>() + begin * static_cast<std::int64_t>(size_of(t.dtype));
    };
    UpdateRow row{.param = at(item.param),
                  .grad = at(item.grad),
                  .state = {at(item.state[0]), at(item.state[1]), at(item.state[2])},
                  .master = at(item.master),
                  .random = item.random + begin / 8,
                  .count = static_cast<std::int32_t>(std::min(length, item.param.count - begin)),
                  .rule = item.rule,
                  .types = types,
                  .vectors = false};
    const void* addresses[] = {row.param, row.grad, row.state[0], row.state[1], row.state[2], row.master};
    row.vectors =
        std::ranges::all_of(addresses, [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; });
    rows.push_back(row);
  }
}

/// Short rows share a block, in their order.
std::vector<std::int32_t> share_out(const std::vector<UpdateRow>& rows, std::int64_t length) {
  std::vector<std::int32_t> first_row;
  std::int64_t elements = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto index = static_cast<std::int32_t>(i);
    elements += rows[i].count;
    if (first_row.empty() || elements > length || index - first_row.back() == kRowsPerBlock) {
      first_row.push_back(index);
      elements = rows[i].count;
    }
  }
  first_row.push_back(static_cast<std::int32_t>(rows.size()));
  return first_row;
}

/// Rows, and behind them the first row of each block.
TableContents make_table(std::span<const UpdateItem> items, const Stream& stream) {
  std::int64_t total = 0;
  for (const UpdateItem& item : items) total += item.param.count;
  const std::int64_t length = elements_per_block(total, stream);
  std::vector<UpdateRow> rows;
  for (const UpdateItem& item : items) add_rows(rows, item, length);
  const std::vector<std::int32_t> first_row = share_out(rows, length);
  const std::size_t more = first_row.size() * sizeof(std::int32_t);
  TableContents contents{table_bytes(rows, more), static_cast<std::int64_t>(rows.size()),
                         static_cast<std::int64_t>(first_row.size()) - 1};
  std::copy_n(reinterpret_cast<const std::byte*>(first_row.data()), more,
              contents.bytes.begin() + static_cast<std::ptrdiff_t>(contents.bytes.size() - more));
  return contents;
}

void launch_kind(UpdateKind kind, const UpdateTable& table, const UpdateArguments& args, const Stream& stream) {
  switch (kind) {
    case UpdateKind::adam:
      return launch_update<UpdateKind::adam>(table, args, stream);
    case UpdateKind::amsgrad:
      return launch_update<UpdateKind::amsgrad>(table, args, stream);
    case UpdateKind::lion:
      return launch_update<UpdateKind::lion>(table, args, stream);
    case UpdateKind::momentum:
      return launch_update<UpdateKind::momentum>(table, args, stream);
    case UpdateKind::plain:
      return launch_update<UpdateKind::plain>(table, args, stream);
  }
}

bool is_bf16_first(const UpdateItem& item) {
  return item.state[0].data != nullptr && item.state[0].dtype == DType::bf16;
}

void check_alike(std::span<const UpdateItem> items) {
  const UpdateItem& like = items.front();
  for (const UpdateItem& item : items) {
    if ((item.param.dtype == DType::f64) == (like.param.dtype == DType::f64) &&
        is_bf16_first(item) == is_bf16_first(like)) {
      continue;
    }
    trinix::detail::fail<DtypeError>("update",
                                     "one call cannot update a parameter of {} and one of {}, or moments of "
                                     "two dtypes",
                                     like.param.dtype, item.param.dtype);
  }
}

void update_forward(const Update::Forward& args, const Stream& stream) {
  static TableCache<UpdateItem> tables;
  const auto make = [&](std::span<const UpdateItem> items) {
    if (!items.empty()) check_alike(items);
    return make_table(items, stream);
  };
  const TableView table = tables.find(args.items, stream, make, args.list);
  if (table.rows == 0) return;
  Backend& backend = backend_of(stream.device);
  const UpdateFactors* factors = args.factors;
  void* temporary = nullptr;
  const std::size_t bytes = args.rules.size() * sizeof(UpdateFactors);
  if (factors == nullptr) {
    std::vector<UpdateFactors> values;
    for (const UpdateRule& rule : args.rules) values.push_back(update_factors(args.kind, rule));
    if (Capture* const capture = Capture::current()) {
      factors = static_cast<const UpdateFactors*>(capture->upload(values.data(), bytes));
    } else {
      temporary = backend.allocate(bytes, stream.device.index);
      backend.write(temporary, values.data(), bytes, stream);
      factors = static_cast<const UpdateFactors*>(temporary);
    }
  }
  const auto* rows = static_cast<const UpdateRow*>(table.data);
  const auto* first_row = reinterpret_cast<const std::int32_t*>(rows + table.rows);
  launch_kind(args.kind, {rows, table.groups == table.rows ? nullptr : first_row, table.groups},
              {.factors = factors,
               .gradient = GradientArguments(args.gradient),
               .skipped = args.skipped.defined ? args.skipped.as<long long>() : nullptr,
               .wide = args.items.front().param.dtype == DType::f64,
               .bf16_first = is_bf16_first(args.items.front())},
              stream);
  if (temporary != nullptr) backend.release(temporary, bytes, stream.device.index);
}

}  // namespace

void register_update() {
  register_kernel<Update>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, update_forward, nullptr});
}

}  // namespace trinix::cuda
