#pragma once

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <trinix/core/scalar.h>
#include <trinix/core/storage.h>
#include <trinix/core/view.h>

/// @file
/// The one tensor type of the library.

namespace trinix {

struct AutogradRecord;  // autograd/record.h

/// Where a new tensor lives, what it holds, and whether gradients are wanted for it.
struct TensorOptions {
  DType dtype = DType::f32;
  Device device = {};
  bool requires_grad = false;
};

/// A shared handle to a strided, typed piece of storage. Copying it copies the handle; views share storage.
///
/// Methods tell what a tensor is or give another look at it; what is computed from tensors are free functions
/// (trinix/autograd/ops.h). A default-constructed tensor is undefined and stands for "not given".
class Tensor {
 public:
  Tensor() = default;
  /// Shape and strides over existing storage; `offset` and strides in elements. Records no gradient.
  Tensor(std::shared_ptr<Storage> storage, DType dtype, const Shape& shape, const Strides& strides,
         std::int64_t offset = 0);

  // What it is -------------------------------------------------------------------------------------------------------
  [[nodiscard]] bool defined() const { return impl_ != nullptr; }
  [[nodiscard]] const Shape& shape() const { return impl().shape; }
  [[nodiscard]] const Strides& strides() const { return impl().strides; }
  [[nodiscard]] int rank() const { return impl().shape.size(); }
  /// Size of one dim; negative dims count from the end. @throws IndexError.
  [[nodiscard]] std::int64_t size(std::int64_t dim) const;
  [[nodiscard]] std::int64_t numel() const;
  [[nodiscard]] DType dtype() const { return impl().dtype; }
  [[nodiscard]] Device device() const { return impl().storage->device(); }
  [[nodiscard]] bool is_contiguous() const;
  /// Elements between the start of the storage and the first element.
  [[nodiscard]] std::int64_t offset() const { return impl().offset; }
  [[nodiscard]] const std::shared_ptr<Storage>& storage() const { return impl().storage; }
  /// What kernels see. The tensor must outlive it.
  [[nodiscard]] View raw() const;
  /// Another look at the same storage; `offset` counts from the start of the storage. The result remembers this tensor
  /// as its base, which is how autograd notices writes through one that the other does not know of. Records nothing:
  /// use the methods below where gradients matter.
  [[nodiscard]] Tensor alias(const Shape& shape, const Strides& strides, std::int64_t offset) const;
  /// Whether this tensor was made as a view of another.
  [[nodiscard]] bool is_view() const { return impl().base != nullptr; }
  /// The tensor of which this is a view; undefined for one that is not.
  [[nodiscard]] Tensor base() const;
  /// The autograd record that the base had when this view was taken.
  [[nodiscard]] const std::shared_ptr<AutogradRecord>& base_record() const { return impl().base_record; }
  /// Whether two handles name the same tensor (not merely equal values).
  [[nodiscard]] bool same(const Tensor& other) const { return impl_ == other.impl_; }
  /// Whether nothing else refers to this tensor or to its storage, so that nobody would notice a write.
  [[nodiscard]] bool is_sole_owner() const {
    return impl_.use_count() == 1 && impl().storage.use_count() == 1 && !is_view();
  }

  // Its values -------------------------------------------------------------------------------------------------------
  /// Address of the first element, in the device's memory. @throws DtypeError when T is not the element type.
  template <class T>
  [[nodiscard]] T* data() const {
    check_dtype(dtype_of<T>, "data");
    return static_cast<T*>(raw_data());
  }
  [[nodiscard]] void* raw_data() const;
  /// The only element, converted to T. Waits for the device. @throws ShapeError when there is not exactly one.
  template <class T>
  [[nodiscard]] T item() const {
    return item_scalar().to<T>();
  }
  [[nodiscard]] Scalar item_scalar() const;
  /// All elements in row-major order, on the host. @throws DtypeError when T is not the element type.
  template <class T>
  [[nodiscard]] std::vector<T> to_vector() const {
    check_dtype(dtype_of<T>, "to_vector");
    // A std::vector<bool> has no array of bool inside.
    using Element = std::conditional_t<std::is_same_v<T, bool>, std::uint8_t, T>;
    std::vector<Element> values(static_cast<std::size_t>(numel()));
    copy_to_host(values.data());
    if constexpr (std::is_same_v<T, bool>) {
      return {values.begin(), values.end()};
    } else {
      return values;
    }
  }
  /// All elements converted to double, row-major.
  [[nodiscard]] std::vector<double> to_doubles() const;
  /// NumPy-like text, truncated in the middle of long dims, with dtype and device at the end.
  [[nodiscard]] std::string to_string() const;

  // Other looks at the same storage; all are differentiable (autograd/ops/views.cpp) ---------------------------------
  /// A view where strides allow it, otherwise a copy. One size may be -1. @throws ShapeError.
  [[nodiscard]] Tensor reshape(const Shape& shape) const;
  /// Like reshape, but never copies. @throws ShapeError when the strides do not allow the shape.
  [[nodiscard]] Tensor view(const Shape& shape) const;
  [[nodiscard]] Tensor permute(const Dims& dims) const;
  [[nodiscard]] Tensor transpose(std::int64_t dim0, std::int64_t dim1) const;
  /// Elements start, start+step, ... below end of one dim. Negative start and end count from the end; both are clamped
  /// as in Python. @throws ShapeError when step < 1.
  [[nodiscard]] Tensor slice(std::int64_t dim, std::int64_t start, std::int64_t end, std::int64_t step = 1) const;
  /// `length` elements of one dim from `start`. @throws IndexError when they are not all there.
  [[nodiscard]] Tensor narrow(std::int64_t dim, std::int64_t start, std::int64_t length) const;
  /// One element of one dim; the dim is dropped. @throws IndexError.
  [[nodiscard]] Tensor select(std::int64_t dim, std::int64_t index) const;
  /// select(0, index).
  [[nodiscard]] Tensor operator[](std::int64_t index) const { return select(0, index); }
  /// Repeats dims of size 1 (and new leading ones) without copying; -1 keeps a size. @throws ShapeError.
  [[nodiscard]] Tensor expand(const Shape& shape) const;
  /// Drops dims of size 1: the given ones (others than size 1 are kept), or all.
  [[nodiscard]] Tensor squeeze(const Dims& dims = {}) const;
  [[nodiscard]] Tensor unsqueeze(std::int64_t dim) const;
  /// The elements (i, i + offset) of two dims, as a last dim.
  [[nodiscard]] Tensor diagonal(std::int64_t offset = 0, std::int64_t dim0 = 0, std::int64_t dim1 = 1) const;
  /// Dims start..end (inclusive) merged into one.
  [[nodiscard]] Tensor flatten(std::int64_t start = 0, std::int64_t end = -1) const;

  // Copies; differentiable (autograd/ops/copies.cpp) -----------------------------------------------------------------
  /// This tensor if it is already row-major, otherwise a copy that is.
  [[nodiscard]] Tensor contiguous() const;
  [[nodiscard]] Tensor clone() const;
  /// This tensor if it already has the dtype, otherwise a converted copy.
  [[nodiscard]] Tensor to(DType dtype) const;
  /// This tensor if it is already there, otherwise a copy on the device.
  [[nodiscard]] Tensor to(Device device) const;
  /// Overwrites the values with those of `source`, broadcast and converted. @throws ShapeError, AutogradError.
  const Tensor& copy_(const Tensor& source) const;

  // Gradients (autograd/tensor_gradients.cpp) ------------------------------------------------------------------------
  [[nodiscard]] bool requires_grad() const;
  /// Asks for gradients of a leaf, or stops asking. @throws DtypeError for integers, AutogradError for a non-leaf.
  Tensor& requires_grad_(bool value = true);
  /// Whether the tensor was made by the user rather than computed by a recorded op.
  [[nodiscard]] bool is_leaf() const;
  /// The accumulated gradient, undefined if there is none yet.
  [[nodiscard]] Tensor grad() const;
  /// Replaces the gradient (undefined drops it). @throws ShapeError, DtypeError, DeviceError, AutogradError.
  void set_grad(const Tensor& grad) const;
  /// Clears the gradient without freeing its memory.
  void zero_grad() const;
  /// The same values without history. Shares storage.
  [[nodiscard]] Tensor detach() const;
  /// Gradients of this tensor with respect to every leaf that it was computed from, added to their grad().
  /// `gradient` is needed unless this tensor has one element. @throws AutogradError.
  void backward(const Tensor& gradient = {}, bool retain_graph = false) const;
  /// Keeps the gradient of a non-leaf in grad() after backward().
  void retain_grad() const;
  /// Calls `hook` with this tensor's gradient during backward; a defined result replaces it. Returns an id.
  int register_hook(std::function<Tensor(const Tensor&)> hook) const;
  void remove_hook(int id) const;

  // For the library's own layers of the house ------------------------------------------------------------------------
  /// Makes this handle, and every copy of it, refer to other values of any dtype or device; the gradient is dropped.
  void set_data(const Tensor& other) const;
  [[nodiscard]] const std::shared_ptr<AutogradRecord>& autograd() const { return impl().autograd; }
  void set_autograd(std::shared_ptr<AutogradRecord> record) const;

 private:
  struct Impl {
    Impl(std::shared_ptr<Storage> s, DType type, const Shape& dims, const Strides& steps, std::int64_t first)
        : storage(std::move(s)), dtype(type), shape(dims), strides(steps), offset(first) {}

    std::shared_ptr<Storage> storage;
    DType dtype;
    Shape shape;
    Strides strides;
    std::int64_t offset;
    std::shared_ptr<AutogradRecord> autograd;
    std::shared_ptr<Impl> base;  ///< never itself a view
    std::shared_ptr<AutogradRecord> base_record;
  };

  [[nodiscard]] Impl& impl() const {
    if (impl_ == nullptr) fail_undefined();
    return *impl_;
  }
  [[noreturn]] static void fail_undefined();
  void check_dtype(DType wanted, const char* op) const;
  void copy_to_host(void* to) const;
  template <class T>
  [[nodiscard]] T one_value() const {
    T value;
    copy_to_host(&value);
    return value;
  }

  std::shared_ptr<Impl> impl_;
};

/// Prints Tensor::to_string().
std::ostream& operator<<(std::ostream& out, const Tensor& tensor);

// Factories. None of them records a gradient; with options.requires_grad the result is a leaf that collects one.
// -------

/// Uninitialised memory. @throws ShapeError, OutOfMemory, DeviceError, and DtypeError for an integer leaf.
[[nodiscard]] Tensor empty(const Shape& shape, const TensorOptions& options = {});
[[nodiscard]] Tensor zeros(const Shape& shape, const TensorOptions& options = {});
[[nodiscard]] Tensor ones(const Shape& shape, const TensorOptions& options = {});
[[nodiscard]] Tensor full(const Shape& shape, Scalar value, const TensorOptions& options = {});
/// start, start + step, ... below end (above it for a negative step). Without options i64 when all three are whole
/// numbers, f32 otherwise. @throws ConfigError for step 0 and for a range without a sensible length.
[[nodiscard]] Tensor arange(Scalar start, Scalar end, Scalar step, const TensorOptions& options);
[[nodiscard]] Tensor arange(Scalar start, Scalar end, Scalar step = 1);
[[nodiscard]] inline Tensor arange(std::int64_t end, const TensorOptions& options = {DType::i64}) {
  return arange(0, end, 1, options);
}
/// `count` values from start to end, both included.
[[nodiscard]] Tensor linspace(double start, double end, std::int64_t count, const TensorOptions& options = {});
/// Ones on the main diagonal; m defaults to n.
[[nodiscard]] Tensor eye(std::int64_t n, std::int64_t m = -1, const TensorOptions& options = {});

[[nodiscard]] Tensor empty_like(const Tensor& other);
[[nodiscard]] Tensor zeros_like(const Tensor& other);
[[nodiscard]] Tensor ones_like(const Tensor& other);
[[nodiscard]] Tensor full_like(const Tensor& other, Scalar value);

namespace detail {
[[nodiscard]] Tensor from_host(const void* values, std::size_t count, const Shape& shape, DType dtype,
                               const TensorOptions& options);
}

/// A copy of host values. @throws ShapeError when the count differs from the shape's.
template <class T>
[[nodiscard]] Tensor from_span(std::span<const T> values, const Shape& shape, const TensorOptions& options = {});
/// A copy of `values` with their own element type (options.dtype is ignored); the shape defaults to one dim.
template <class T>
[[nodiscard]] Tensor from_vector(const std::vector<T>& values, TensorOptions options = {}) {
  return from_vector(values, {static_cast<std::int64_t>(values.size())}, options);
}
template <class T>
[[nodiscard]] Tensor from_vector(const std::vector<T>& values, const Shape& shape, TensorOptions options = {}) {
  if constexpr (std::is_same_v<T, bool>) {
    const std::vector<std::uint8_t> bytes(values.begin(), values.end());
    return detail::from_host(bytes.data(), bytes.size(), shape, DType::boolean, options);
  } else {
    return from_span(std::span<const T>(values), shape, options);
  }
}
/// Adopts foreign memory without copying; `deleter` runs when the last tensor on it goes.
[[nodiscard]] Tensor from_memory(void* data, const Shape& shape, DType dtype, Device device,
                                 std::function<void(void*)> deleter);

template <class T>
Tensor from_span(std::span<const T> values, const Shape& shape, const TensorOptions& options) {
  return detail::from_host(values.data(), values.size(), shape, dtype_of<T>, options);
}

}  // namespace trinix
