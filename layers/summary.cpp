#include <algorithm>
#include <cstdlib>
#include <cxxabi.h>
#include <memory>
#include <typeinfo>
#include <vector>

#include <trinix/core/detail/fail.h>
#include <trinix/core/detail/tensor_set.h>
#include <trinix/layers/summary.h>

namespace trinix::nn {

namespace {

/// "Linear" for a trinix::nn::Linear.
std::string class_of(const Module& module) {
  const char* const name = typeid(module).name();
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> plain(abi::__cxa_demangle(name, nullptr, nullptr, &status),
                                                          &std::free);
  std::string text = status == 0 ? plain.get() : name;
  for (const std::string_view prefix : {"trinix::nn::", "trinix::"}) {
    for (std::size_t at = text.find(prefix); at != std::string::npos; at = text.find(prefix)) {
      text.erase(at, prefix.size());
    }
  }
  return text;
}

/// 1234567 -> "1,234,567"
std::string grouped(std::int64_t number) {
  std::string text = std::to_string(number);
  for (std::ptrdiff_t at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > 0; at -= 3) {
    text.insert(static_cast<std::size_t>(at), ",");
  }
  return text;
}

double mebibytes(const std::vector<NamedTensor>& tensors) {
  double bytes = 0;
  for (const auto& [name, tensor] : tensors) {
    bytes += static_cast<double>(tensor.numel()) * static_cast<double>(size_of(tensor.dtype()));
  }
  return bytes / (1024.0 * 1024.0);
}

struct Row {
  std::string name;
  std::string type;
  std::string shapes;
  std::string count;
};

class Table {
 public:
  explicit Table(int depth) : depth_(depth) {}

  /// Lists a module and what is below it. @returns how many values they hold that were not seen before
  std::int64_t add(const std::string& name, const Module& module, int level) {
    const bool listed = depth_ < 0 || level <= depth_;
    const std::size_t row = rows_.size();
    if (listed)
      rows_.push_back({std::string(static_cast<std::size_t>(2 * level), ' ') + name, class_of(module), "", ""});
    std::int64_t count = 0;
    std::string shapes;
    for (const auto& [parameter, tensor] : module.named_parameters()) {
      if (parameter.find('.') != std::string::npos) continue;  // of a module below
      const bool is_new = seen_.insert(tensor).is_new;
      if (is_new) count += tensor.numel();
      shapes += (shapes.empty() ? "" : ", ") + parameter + " " + tensor.shape().to_string() + (is_new ? "" : " (tied)");
    }
    for (const auto& [child, below] : module.named_children()) count += add(child, *below, level + 1);
    if (listed) {
      rows_[row].shapes = shapes;
      rows_[row].count = grouped(count);
    }
    return count;
  }

  [[nodiscard]] std::string text() const {
    std::size_t widths[3] = {4, 5, 10};
    for (const Row& r : rows_) {
      widths[0] = std::max(widths[0], r.name.size());
      widths[1] = std::max(widths[1], r.type.size());
      widths[2] = std::max(widths[2], r.count.size());
    }
    std::string all;
    const auto line = [&](const Row& r) {
      const auto padded = [](const std::string& s, std::size_t width) {
        return s + std::string(width - s.size(), ' ');
      };
      all += padded(r.name, widths[0]) + "  " + padded(r.type, widths[1]) + "  " +
             std::string(widths[2] - r.count.size(), ' ') + r.count + (r.shapes.empty() ? "" : "  " + r.shapes) + "\n";
    };
    line({"name", "class", "shapes", "parameters"});
    for (const Row& r : rows_) line(r);
    return all;
  }

 private:
  int depth_;
  std::vector<Row> rows_;
  detail::TensorSet seen_;
};

}  // namespace

std::string summary(const Module& model, const SummaryOptions& options) {
  Table table(options.depth);
  const std::int64_t total = table.add("model", model, 0);
  std::int64_t trained = 0;
  const auto parameters = model.named_parameters();
  for (const auto& p : parameters) trained += p.tensor.requires_grad() ? p.tensor.numel() : 0;
  return table.text() +
         detail::format("{} parameters, of which {} are trained; {:.2f} MiB, and {:.2f} MiB of buffers\n",
                        grouped(total), grouped(trained), mebibytes(parameters), mebibytes(model.named_buffers()));
}

}  // namespace trinix::nn
