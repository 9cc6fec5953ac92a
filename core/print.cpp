// Tensor::to_string(): nested brackets with columns that line up, as NumPy writes them.
#include <algorithm>
#include <cmath>
#include <ostream>
#include <vector>

#include <trinix/core/backend.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/kernel.h>
#include <trinix/core/ops/copy.h>
#include <trinix/core/tensor.h>

namespace trinix {

namespace {

constexpr std::int64_t kThreshold = 1000;  // more elements than this, and the middle of long dims is left out
constexpr std::int64_t kEdge = 3;          // what is then shown at each end
constexpr std::size_t kLineWidth = 80;

/// How all floating-point elements of one tensor are written: one notation for all, so that they can be compared.
class FloatStyle {
 public:
  explicit FloatStyle(const std::vector<double>& values) {
    double largest = 0;
    double smallest = INFINITY;
    whole_ = true;
    for (const double v : values) {
      if (!std::isfinite(v)) continue;
      whole_ = whole_ && v == std::trunc(v);
      const double size = std::fabs(v);
      largest = std::max(largest, size);
      if (size > 0) smallest = std::min(smallest, size);
    }
    // NumPy's rule, but whole numbers stay whole as long as they are short.
    scientific_ = largest >= 1e8 || (!whole_ && (smallest < 1e-4 || largest / smallest > 1000));
    whole_ = whole_ && !scientific_;
  }

  [[nodiscard]] std::string operator()(double v) const {
    if (std::isnan(v)) return "nan";
    if (std::isinf(v)) return v > 0 ? "inf" : "-inf";
    if (scientific_) return detail::format("{:.4e}", v);
    const std::string text = detail::format("{:.4f}", v);
    return whole_ ? text.substr(0, text.find('.') + 1) : text;
  }

 private:
  bool whole_ = true;
  bool scientific_ = false;
};

/// The part of a tensor that is shown, on the host and row-major: at most 2 * kEdge of each dim when it is long.
struct Shown {
  Tensor values;
  Shape full;  // shape of the whole
  bool cut = false;
  std::size_t width = 0;                // of the widest element
  std::vector<std::string> elements{};  // row-major over values.shape()

  [[nodiscard]] bool is_cut(int dim) const { return cut && full[dim] > 2 * kEdge; }
};

std::int64_t shown_size(std::int64_t n) { return std::min(n, 2 * kEdge); }

/// A new tensor holding the two edges of each long dim of `t`. Below autograd: printing is not recorded.
Tensor edges_of(const Tensor& t) {
  Shape shape = t.shape();
  for (std::int64_t& n : shape) n = shown_size(n);
  const Tensor result = empty(shape, {t.dtype(), t.device()});
  // One copy per corner: bit d of `corner` chooses the front or the back of dim d.
  for (unsigned corner = 0; corner < 1U << t.rank(); ++corner) {
    View from = t.raw();
    View to = result.raw();
    bool wanted = true;
    std::int64_t from_begin = 0;
    std::int64_t to_begin = 0;
    for (int d = 0; d < t.rank(); ++d) {
      const bool back = (corner >> d & 1U) != 0;
      const bool split = t.shape()[d] > 2 * kEdge;
      wanted = wanted && (split || !back);
      if (!split) continue;
      from.shape[d] = to.shape[d] = kEdge;
      if (!back) continue;
      from_begin += (t.shape()[d] - kEdge) * t.strides()[d];
      to_begin += kEdge * result.strides()[d];
    }
    if (!wanted) continue;
    const auto bytes = static_cast<std::int64_t>(size_of(t.dtype()));
    from.data = static_cast<char*>(from.data) + from_begin * bytes;
    to.data = static_cast<char*>(to.data) + to_begin * bytes;
    run<Copy>({.from = from, .to = to}, t.device());
  }
  return result;
}

std::vector<std::string> texts_of(const Tensor& values) {
  std::vector<std::string> texts;
  if (values.dtype() == DType::i64) {  // not every one of them is a double
    for (const std::int64_t v : values.to_vector<std::int64_t>()) texts.push_back(std::to_string(v));
    return texts;
  }
  const std::vector<double> numbers = values.to_doubles();
  const FloatStyle style(numbers);
  for (const double v : numbers) {
    if (values.dtype() == DType::boolean) {
      texts.emplace_back(v != 0 ? "true" : "false");
    } else if (is_integral(values.dtype())) {
      texts.push_back(std::to_string(static_cast<std::int64_t>(v)));
    } else {
      texts.push_back(style(v));
    }
  }
  return texts;
}

Shown choose(const Tensor& t) {
  Shown shown{.values = t, .full = t.shape(), .cut = t.numel() > kThreshold};
  if (shown.cut) shown.values = edges_of(t);
  shown.elements = texts_of(shown.values);
  for (const std::string& text : shown.elements) shown.width = std::max(shown.width, text.size());
  return shown;
}

/// Writes one innermost dim, broken into lines of at most kLineWidth.
void write_row(std::string& out, const Shown& shown, std::size_t first, std::size_t indent) {
  const int dim = shown.full.size() - 1;
  const std::int64_t count = shown.values.shape()[dim];
  out += '[';
  std::size_t column = indent + 1;
  const auto put = [&](const std::string& text, bool first_of_row) {
    if (!first_of_row) {
      out += ',';
      if (column + 2 + text.size() + 1 > kLineWidth) {
        out.append(1, '\n').append(indent + 1, ' ');
        column = indent + 1;
      } else {
        out += ' ';
        column += 2;
      }
    }
    out += text;
    column += text.size();
  };
  for (std::int64_t i = 0; i < count; ++i) {
    if (i == kEdge && shown.is_cut(dim)) put("...", false);
    const std::string& text = shown.elements[first + static_cast<std::size_t>(i)];
    put(std::string(shown.width - text.size(), ' ') + text, i == 0);
  }
  out += ']';
}

void write_dim(std::string& out, const Shown& shown, int dim, std::size_t first, std::size_t indent) {
  const int rank = shown.full.size();
  if (dim == rank - 1) {
    write_row(out, shown, first, indent);
    return;
  }
  const auto stride = static_cast<std::size_t>(contiguous_strides(shown.values.shape())[dim]);
  // Blank lines part matrices, two of them stacks of matrices, and so on.
  std::string separator(",");
  separator.append(static_cast<std::size_t>(rank - 1 - dim), '\n').append(indent + 1, ' ');
  out += '[';
  for (std::int64_t i = 0; i < shown.values.shape()[dim]; ++i) {
    if (i > 0) out += separator;
    if (i == kEdge && shown.is_cut(dim)) out.append("...").append(separator);
    write_dim(out, shown, dim + 1, first + static_cast<std::size_t>(i) * stride, indent + 1);
  }
  out += ']';
}

}  // namespace

std::string Tensor::to_string() const {
  if (!defined()) return "tensor(undefined)";
  std::string text = "tensor(";
  if (numel() == 0) {
    text += "[]";
    if (shape() != Shape({0})) text.append(", shape ").append(shape().to_string());
  } else {
    const Shown shown = choose(*this);
    if (rank() == 0) {
      text += shown.elements[0];
    } else {
      write_dim(text, shown, 0, 0, text.size());
      if (shown.cut) text.append(", shape ").append(shape().to_string());
    }
  }
  text.append(", ").append(name(dtype())).append(", ").append(device().to_string());
  if (autograd() != nullptr) text += ", requires grad";
  return text + ")";
}

std::ostream& operator<<(std::ostream& out, const Tensor& tensor) { return out << tensor.to_string(); }

}  // namespace trinix
