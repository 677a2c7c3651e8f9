#include "bindings/dlpack_array.hpp"

namespace unrolled {

namespace {

// DLPack's exchange interface, version 1: what a type's capsule `__dlpack_c_exchange_api__` points to.
struct DLPackExchangeApi {
  uint32_t major, minor;
  void* previous;
  void *allocate, *from_object, *to_object;
  int (*dltensor_from_object)(void* object, nb::dlpack::dltensor* out);
  void* stream;
};

using ViewFunction = int (*)(void*, nb::dlpack::dltensor*);

ViewFunction exchange_view_of(PyTypeObject* type) {
  PyObject* capsule =
      PyDict_GetItemString(type->tp_dict, "__dlpack_c_exchange_api__");  // its own: subclasses may differ
  if (capsule == nullptr || !PyCapsule_IsValid(capsule, "dlpack_exchange_api")) return nullptr;
  const auto* found = static_cast<const DLPackExchangeApi*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
  return found->major == 1 ? found->dltensor_from_object : nullptr;
}

// The function of the type that was asked for last: nearly always torch.Tensor.
ViewFunction cached_exchange_view(PyTypeObject* type) {
  static PyTypeObject* last = nullptr;
  static ViewFunction view = nullptr;
  if (type == last) return view;
  Py_INCREF(type);
  Py_XDECREF(last);
  last = type;
  view = type->tp_dict == nullptr ? nullptr : exchange_view_of(type);
  return view;
}

bool is_contiguous(const nb::dlpack::dltensor& view) {
  if (view.strides == nullptr) return true;
  int64_t stride = 1;
  for (int axis = view.ndim - 1; axis >= 0; --axis) {
    if (view.shape[axis] == 0) return true;
    if (view.shape[axis] != 1 && view.strides[axis] != stride) return false;
    stride *= view.shape[axis];
  }
  return true;
}

}  // namespace

std::size_t Array::size() const {
  std::size_t size = 1;
  for (std::size_t axis = 0; axis < ndim(); ++axis) size *= shape(axis);
  return size;
}

bool Array::read_by_exchange_api(PyObject* object) noexcept {
  const ViewFunction view = cached_exchange_view(Py_TYPE(object));
  if (view == nullptr) return false;
  if (view(object, &view_) != 0) {
    PyErr_Clear();
    return false;
  }
  return view_.device.device_type == nb::device::cpu::value && is_contiguous(view_);
}

}  // namespace unrolled
