// An array of Python, for the time of a call.
//
// Where an array's type has the functions of DLPack's exchange interface (torch 2.13 has them), its own function fills
// in what is asked here, in a tenth of a microsecond; `__dlpack__` takes six, which a training step would pay for some
// 200 tensors.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>

namespace unrolled {

namespace nb = nanobind;

// Contiguous, in the memory of the processor. What it shows lives as long as the object it came from.
class Array {
 public:
  void* data() const { return static_cast<char*>(view_.data) + view_.byte_offset; }
  nb::dlpack::dtype dtype() const { return view_.dtype; }
  std::size_t ndim() const { return static_cast<std::size_t>(view_.ndim); }
  std::size_t shape(std::size_t axis) const { return static_cast<std::size_t>(view_.shape[axis]); }
  std::size_t size() const;

  // Whether the object is such an array. Where its type has no function, nanobind is asked, and `flags` and `cleanup`
  // are its.
  template <typename Flags, typename Cleanup>
  bool read(nb::handle object, Flags flags, Cleanup* cleanup) noexcept {
    if (read_by_exchange_api(object.ptr())) return true;
    nb::detail::make_caster<NdArray> caster;
    if (!caster.from_python(object, flags, cleanup)) return false;
    ndarray_ = caster.operator nb::detail::cast_t<NdArray>();
    if (!ndarray_.is_valid()) return false;
    view_ = {};
    view_.data = ndarray_.data();
    view_.dtype = ndarray_.dtype();
    view_.ndim = static_cast<int32_t>(ndarray_.ndim());
    view_.shape = const_cast<int64_t*>(ndarray_.shape_ptr());
    return true;
  }

 private:
  using NdArray = nb::ndarray<nb::device::cpu, nb::c_contig>;

  bool read_by_exchange_api(PyObject* object) noexcept;

  nb::dlpack::dltensor view_;
  NdArray ndarray_;
};

}  // namespace unrolled

namespace nanobind {
namespace detail {
template <>
struct type_caster<unrolled::Array> {
  NB_TYPE_CASTER(unrolled::Array, const_name("array"))

  template <typename Flags, typename Cleanup>
  bool from_python(handle object, Flags flags, Cleanup* cleanup) noexcept {
    return value.read(object, flags, cleanup);
  }
};
}  // namespace detail
}  // namespace nanobind
