#include <charconv>

#include <trinix/core/detail/fail.h>
#include <trinix/core/device.h>
#include <trinix/core/error.h>

namespace trinix {

std::string Device::to_string() const {
  if (is_cpu()) return index == 0 ? "cpu" : "cpu:" + std::to_string(index);
  return "cuda:" + std::to_string(index);
}

Device Device::parse(std::string_view text) {
  if (text == "cpu") return cpu();
  if (text == "cuda") return cuda();
  if (text.starts_with("cuda:")) {
    const std::string_view digits = text.substr(5);
    int index = -1;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    if (code == std::errc() && end == digits.data() + digits.size() && index >= 0) return cuda(index);
  }
  detail::fail<DeviceError>("device", "unknown device '{}': write cpu, cuda or cuda:N", text);
}

}  // namespace trinix
