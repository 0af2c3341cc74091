#![doc = include_str!("../README.md")]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::slice;

use skinny_runtime::{Model, Options, Picture};

/// A network with its weights packed for this machine. Any number of threads may run one model at the same time.
pub struct SkinnyModel {
    model: Model,
    labels: Vec<CString>,
}

/// What a call has come to; [`skinny_error`] says more.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkinnyStatus {
    /// It is done.
    Ok = 0,
    /// An argument cannot be: null where something must be, no text, a size that does not fit.
    Argument = 1,
    /// The file cannot be read or is wrong.
    Model = 2,
    /// The library is wrong; please report it.
    Internal = 3,
}

type Refusal = (SkinnyStatus, String);

thread_local! {
    static ERROR: RefCell<CString> = RefCell::default();
}

/// Keeps what went wrong for [`skinny_error`]; no panic leaves the library.
fn guard(work: impl FnOnce() -> Result<(), Refusal>) -> SkinnyStatus {
    let result = catch_unwind(AssertUnwindSafe(work));
    let (status, message) = match result {
        Ok(Ok(())) => (SkinnyStatus::Ok, String::new()),
        Ok(Err(refusal)) => refusal,
        Err(_) => (
            SkinnyStatus::Internal,
            "skinny has failed; please report how".to_owned(),
        ),
    };
    let text = CString::new(message.replace('\0', "")).unwrap_or_default();
    ERROR.with(|error| *error.borrow_mut() = text);
    status
}

fn argument(message: impl Into<String>) -> Refusal {
    (SkinnyStatus::Argument, message.into())
}

/// # Safety
/// The pointer is null or points to a model that is not freed.
unsafe fn borrowed<'a>(model: *const SkinnyModel) -> Result<&'a SkinnyModel, Refusal> {
    // SAFETY: promised by the caller.
    unsafe { model.as_ref() }.ok_or_else(|| argument("the model is null; load one"))
}

/// One line on the last call of this thread that gave a status, empty if that was done. Valid until the next such call of this
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn skinny_error() -> *const c_char {
    ERROR.with(|error| error.borrow().as_ptr())
}

/// Reads a `.skinny` file for a number of threads, 0 for all cores, into `*model`, which is null if it cannot. The number of
/// threads never changes a bit of a result. Free the model with [`skinny_free`].
///
/// # Safety
/// `path` is null or ends with a zero byte; `model` is null or can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skinny_load(
    path: *const c_char,
    threads: u32,
    model: *mut *mut SkinnyModel,
) -> SkinnyStatus {
    guard(|| {
        if model.is_null() {
            return Err(argument("there is no place for the model"));
        }
        // SAFETY: it is not null, and the caller promises that it can be written to.
        unsafe { model.write(ptr::null_mut()) };
        if path.is_null() {
            return Err(argument("the path is null"));
        }
        // SAFETY: it is not null, and the caller promises that it ends with a zero byte.
        let path = unsafe { CStr::from_ptr(path) };
        let path = path
            .to_str()
            .map_err(|_| argument("the path is not UTF-8"))?;
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            1..=1024 => threads as usize,
            _ => return Err(argument(format!("{threads} threads are more than 1024"))),
        };
        let options = Options {
            threads,
            ..Options::default()
        };
        let ready = Model::load_with(path, &options)
            .map_err(|error| (SkinnyStatus::Model, error.to_string()))?;
        let labels = &ready.preprocess().labels;
        let text = |label: &String| CString::new(label.replace('\0', "")).unwrap_or_default();
        let ready = SkinnyModel {
            labels: labels.iter().map(text).collect(),
            model: ready,
        };
        // SAFETY: as above.
        unsafe { model.write(Box::into_raw(Box::new(ready))) };
        Ok(())
    })
}

/// Frees a model; null is nothing to free.
///
/// # Safety
/// `model` is null or comes from [`skinny_load`], and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skinny_free(model: *mut SkinnyModel) {
    if !model.is_null() {
        // SAFETY: it comes from `Box::into_raw`, and the caller promises that nobody uses it any more.
        drop(unsafe { Box::from_raw(model) });
    }
}

/// Channels, height and width of an image that the network reads; their product is the number of its values.
///
/// # Safety
/// `model` is null or is not freed; `shape` is null or has room for three values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skinny_input_shape(
    model: *const SkinnyModel,
    shape: *mut usize,
) -> SkinnyStatus {
    guard(|| {
        // SAFETY: promised by the caller.
        let model = unsafe { borrowed(model) }?;
        if shape.is_null() {
            return Err(argument("there is no place for the shape"));
        }
        // SAFETY: it is not null, and the caller promises the room.
        let shape = unsafe { slice::from_raw_parts_mut(shape, 3) };
        shape.copy_from_slice(&model.model.input_shape());
        Ok(())
    })
}

/// Values that the network gives for an image, e.g. a score for each class; 0 for null.
///
/// # Safety
/// `model` is null or is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skinny_output_len(model: *const SkinnyModel) -> usize {
    // SAFETY: promised by the caller.
    unsafe { model.as_ref() }.map_or(0, |model| model.model.output_len())
}

/// Name of a class; null if the model does not name it. Valid until the model is freed.
///
/// # Safety
/// `model` is null or is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skinny_label(model: *const SkinnyModel, class: usize) -> *const c_char {
    // SAFETY: promised by the caller.
    let model = unsafe { model.as_ref() };
    model
        .and_then(|model| model.labels.get(class))
        .map_or(ptr::null(), |label| label.as_ptr())
}

/// Makes of a picture the image that the network reads, as the model says: size, scale, mean and so on. The picture has a byte
/// per value, row by row, the channels of a pixel side by side: 1 for grey, 3 for red, green and blue.
///
/// # Safety
/// `model` is null or is not freed; `pixels` is null or has `width * height * channels` bytes; `image` is null or has room for the
/// values of one image.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skinny_prepare(
    model: *const SkinnyModel,
    pixels: *const u8,
    width: usize,
    height: usize,
    channels: usize,
    image: *mut f32,
) -> SkinnyStatus {
    guard(|| {
        // SAFETY: promised by the caller.
        let model = &unsafe { borrowed(model) }?.model;
        if pixels.is_null() || image.is_null() {
            return Err(argument("the pixels or the image are null"));
        }
        let length = [width, height, channels]
            .iter()
            .try_fold(1usize, |product, extent| product.checked_mul(*extent))
            .filter(|length| *length <= isize::MAX as usize)
            .ok_or_else(|| argument("the picture is larger than the memory"))?;
        // SAFETY: it is not null, and the caller promises the bytes.
        let pixels = unsafe { slice::from_raw_parts(pixels, length) };
        let picture = Picture {
            width,
            height,
            channels,
            pixels: pixels.to_vec(),
        };
        let prepared = model.preprocess().apply(&picture, model.input_shape());
        let prepared = prepared.map_err(|error| argument(error.to_string()))?;
        // SAFETY: it is not null, and the caller promises the room.
        let image = unsafe { slice::from_raw_parts_mut(image, model.input_len()) };
        image.copy_from_slice(&prepared);
        Ok(())
    })
}

/// Runs images, `[images, channels, height, width]`, into `[images, output]`.
///
/// # Safety
/// `model` is null or is not freed; `input` is null or has the values of the images; `output` is null or has room for their results,
/// and overlaps with nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn skinny_run(
    model: *const SkinnyModel,
    input: *const f32,
    images: usize,
    output: *mut f32,
) -> SkinnyStatus {
    guard(|| {
        // SAFETY: promised by the caller.
        let model = &unsafe { borrowed(model) }?.model;
        if images == 0 {
            return Ok(());
        }
        if input.is_null() || output.is_null() {
            return Err(argument("the input or the output is null"));
        }
        let length = |of_one: usize| {
            let length = images.checked_mul(of_one);
            length
                .filter(|length| *length <= isize::MAX as usize / size_of::<f32>())
                .ok_or_else(|| argument(format!("{images} images are larger than the memory")))
        };
        let (from, to) = (length(model.input_len())?, length(model.output_len())?);
        // SAFETY: it is not null, and the caller promises the values.
        let input = unsafe { slice::from_raw_parts(input, from) };
        let results = model
            .run(input)
            .map_err(|error| argument(error.to_string()))?;
        // SAFETY: it is not null, and the caller promises the room.
        let output = unsafe { slice::from_raw_parts_mut(output, to) };
        output.copy_from_slice(&results);
        Ok(())
    })
}
