#include <utility>

#include <trinix/core/backend.h>
#include <trinix/core/capture.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/copy.h>
#include <trinix/core/tensor.h>

namespace trinix {

using detail::fail;

Tensor::Tensor(std::shared_ptr<Storage> storage, DType dtype, const Shape& shape, const Strides& strides,
               std::int64_t offset)
    : impl_(std::make_shared<Impl>(std::move(storage), dtype, shape, strides, offset)) {}

void Tensor::fail_undefined() {
  fail<Error>("tensor", "an undefined tensor was used; give it a value first (for example with zeros())");
}

std::int64_t Tensor::size(std::int64_t dim) const { return shape()[wrap_dim("size", dim, rank())]; }

std::int64_t Tensor::numel() const {
  std::int64_t n = 1;  // overflow was excluded when the tensor was made
  for (const std::int64_t d : shape()) n *= d;
  return n;
}

bool Tensor::is_contiguous() const { return raw().is_contiguous(); }

void* Tensor::raw_data() const {
  const Impl& t = impl();
  return static_cast<char*>(t.storage->data()) + t.offset * static_cast<std::int64_t>(size_of(t.dtype));
}

View Tensor::raw() const {
  const Impl& t = impl();
  return View{raw_data(), t.dtype, t.storage->device(), t.shape, t.strides, true};
}

Tensor Tensor::alias(const Shape& shape, const Strides& strides, std::int64_t offset) const {
  Tensor view(impl().storage, dtype(), shape, strides, offset);
  view.impl_->base = impl().base != nullptr ? impl().base : impl_;
  view.impl_->base_record = impl().base != nullptr ? impl().base_record : impl().autograd;
  return view;
}

Tensor Tensor::base() const {
  Tensor t;
  t.impl_ = impl().base;
  return t;
}

void Tensor::check_dtype(DType wanted, const char* op) const {
  if (dtype() != wanted) {
    fail<DtypeError>(op, "the tensor holds {} but was read as {}: convert it with to()", dtype(), wanted);
  }
}

void Tensor::copy_to_host(void* to) const {
  refuse_in_capture("to_vector", device());
  const std::int64_t n = numel();
  if (n == 0) return;
  View source = raw();
  Tensor staging;
  if (!source.is_contiguous()) {
    staging = empty(shape(), {dtype(), device()});
    source = staging.raw();
    run<Copy>({.from = raw(), .to = source}, device());
  }
  Backend& backend = backend_of(device());
  backend.copy(to, Device::cpu(), source.data, device(), static_cast<std::size_t>(n) * size_of(dtype()),
               stream_of(device()));
  backend.synchronize(device().index);
}

Scalar Tensor::item_scalar() const {
  if (numel() != 1) {
    fail<ShapeError>("item", "the tensor of shape {} has {} elements, not one; index it first", shape(), numel());
  }
  refuse_in_capture("item", device());
  switch (dtype()) {
    case DType::boolean:
      return Scalar(one_value<bool>());
    case DType::u8:
      return Scalar(one_value<std::uint8_t>());
    case DType::i32:
      return Scalar(one_value<std::int32_t>());
    case DType::i64:
      return Scalar(one_value<std::int64_t>());
    case DType::f16:
      return Scalar(static_cast<float>(one_value<float16>()));
    case DType::bf16:
      return Scalar(static_cast<float>(one_value<bfloat16>()));
    case DType::f32:
      return Scalar(one_value<float>());
    case DType::f64:
      return Scalar(one_value<double>());
  }
  return {};
}

std::vector<double> Tensor::to_doubles() const {
  refuse_in_capture("to_doubles", device());
  Tensor wide = *this;
  if (dtype() != DType::f64) {
    wide = empty(shape(), {DType::f64, device()});
    run<Copy>({.from = raw(), .to = wide.raw()}, device());
  }
  return wide.to_vector<double>();
}

void Tensor::set_data(const Tensor& other) const {
  const Impl& source = other.impl();
  Impl& target = impl();
  target.storage = source.storage;
  target.dtype = source.dtype;
  target.shape = source.shape;
  target.strides = source.strides;
  target.offset = source.offset;
  target.base = nullptr;
  target.base_record = nullptr;
  if (target.autograd != nullptr) set_grad({});  // also tells the leaf of its new shape and dtype
}

void Tensor::set_autograd(std::shared_ptr<AutogradRecord> record) const { impl().autograd = std::move(record); }

}  // namespace trinix
