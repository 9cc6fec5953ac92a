#include <algorithm>

#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/shape.h>

namespace trinix {

using detail::fail;

Dims::Dims(std::span<const std::int64_t> values) {
  if (values.size() > kMaxRank) {
    fail<ShapeError>("shape", "{} dimensions given, at most {} are supported", values.size(), kMaxRank);
  }
  std::copy(values.begin(), values.end(), values_.begin());
  size_ = static_cast<int>(values.size());
}

Dims Dims::filled(int count, std::int64_t value) {
  Dims r;
  for (int i = 0; i < count; ++i) r.push_back(value);
  return r;
}

void Dims::push_back(std::int64_t value) { insert(size_, value); }

void Dims::insert(int at, std::int64_t value) {
  if (size_ == kMaxRank) fail<ShapeError>("shape", "more than {} dimensions are not supported", kMaxRank);
  for (int i = size_; i > at; --i) (*this)[i] = (*this)[i - 1];
  (*this)[at] = value;
  ++size_;
}

void Dims::erase(int at) {
  for (int i = at; i + 1 < size_; ++i) (*this)[i] = (*this)[i + 1];
  --size_;
}

bool Dims::contains(std::int64_t value) const { return std::find(begin(), end(), value) != end(); }

std::string Dims::to_string() const {
  std::string text = "[";
  for (int i = 0; i < size_; ++i) {
    if (i > 0) text += ", ";
    text += std::to_string((*this)[i]);
  }
  return text + "]";
}

std::int64_t numel(const Shape& shape) {
  std::int64_t product = 1;
  bool overflow = false;
  bool zero = false;
  for (const std::int64_t n : shape) {
    if (n < 0) fail<ShapeError>("shape", "negative dimension in {}", shape);
    zero = zero || n == 0;
    overflow = overflow || __builtin_mul_overflow(product, n, &product);
  }
  if (zero) return 0;
  if (overflow) fail<ShapeError>("shape", "the number of elements of {} does not fit in 63 bits", shape);
  return product;
}

Strides contiguous_strides(const Shape& shape) {
  Strides strides = shape;
  std::uint64_t step = 1;  // unsigned: a shape with a zero dimension may have others whose product wraps
  for (int i = shape.size() - 1; i >= 0; --i) {
    strides[i] = static_cast<std::int64_t>(step);
    // A zero-sized dimension has no elements to step over; keep the other strides meaningful.
    step *= static_cast<std::uint64_t>(std::max<std::int64_t>(shape[i], 1));
  }
  return strides;
}

Shape broadcast_shapes(const char* op, const Shape& a, const Shape& b) {
  if (a == b) return a;
  const Shape& longer = a.size() >= b.size() ? a : b;
  const Shape& shorter = a.size() >= b.size() ? b : a;
  Shape result = longer;
  const int shift = longer.size() - shorter.size();
  for (int i = 0; i < shorter.size(); ++i) {
    const std::int64_t x = longer[i + shift];
    const std::int64_t y = shorter[i];
    if (x != y && x != 1 && y != 1) {
      fail<ShapeError>(op,
                       "shapes {} and {} do not broadcast: dimension {} is {} in one and {} in the other; "
                       "they must be equal or 1",
                       a, b, i + shift, a.size() >= b.size() ? x : y, a.size() >= b.size() ? y : x);
    }
    result[i + shift] = x == 1 ? y : x;
  }
  return result;
}

int wrap_dim(const char* op, std::int64_t dim, int rank) {
  const std::int64_t wrapped = dim < 0 ? dim + rank : dim;
  if (rank == 0) fail<IndexError>(op, "dim {} was asked for, but the tensor has no dims", dim);
  if (wrapped < 0 || wrapped >= rank) {
    fail<IndexError>(op, "dim {} is out of range for a tensor of rank {}: expected {} to {}", dim, rank, -rank,
                     rank - 1);
  }
  return static_cast<int>(wrapped);
}

Dims wrap_dims(const char* op, const Dims& dims, int rank) {
  Dims result;
  if (dims.empty()) {
    for (int i = 0; i < rank; ++i) result.push_back(i);
    return result;
  }
  for (const std::int64_t d : dims) {
    const int w = wrap_dim(op, d, rank);
    if (result.contains(w)) fail<IndexError>(op, "dim {} is given twice in {}", d, dims);
    result.push_back(w);
  }
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace trinix
