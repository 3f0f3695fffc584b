//! Values of groups, of any stored type, in the order that ties go by.

use std::cmp::Ordering;
use std::fmt::Debug;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, BooleanArray, PrimitiveArray, StringViewArray,
};
use datafusion::arrow::datatypes::DataType;

/// The values that groups keep. A group that has none yet holds anything.
pub(in crate::functions) trait Store: Debug + Send + Sync + 'static {
    type Array: Array + Clone + 'static;

    fn grow(&mut self, count: usize);
    fn set(&mut self, group: usize, array: &Self::Array, row: usize);
    /// How the row compares with what the group holds.
    fn order(&self, group: usize, array: &Self::Array, row: usize) -> Ordering;
    /// The first groups' values, null where `seen` is false. One for each of `seen`.
    fn array(&self, seen: &[bool]) -> ArrayRef;
    /// Removes the first groups.
    fn drop_first(&mut self, count: usize);
    fn heap_bytes(&self) -> usize;
}

/// Numbers and times. Doubles are ordered with -0.0 below 0.0.
#[derive(Debug)]
pub(in crate::functions) struct Primitives<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    /// With its time zone.
    kind: DataType,
}

impl<T: ArrowPrimitiveType> Primitives<T> {
    pub(in crate::functions) fn new(kind: &DataType) -> Self {
        Self { values: Vec::new(), kind: kind.clone() }
    }
}

impl<T: ArrowPrimitiveType + Debug> Store for Primitives<T> {
    type Array = PrimitiveArray<T>;

    fn grow(&mut self, count: usize) {
        self.values.resize(count, T::Native::default());
    }
    #[inline]
    fn set(&mut self, group: usize, array: &Self::Array, row: usize) {
        self.values[group] = array.value(row);
    }
    fn order(&self, group: usize, array: &Self::Array, row: usize) -> Ordering {
        array.value(row).compare(self.values[group])
    }
    fn array(&self, seen: &[bool]) -> ArrayRef {
        let values = self.values.iter().zip(seen).map(|(value, seen)| seen.then_some(*value));
        Arc::new(values.collect::<PrimitiveArray<T>>().with_data_type(self.kind.clone()))
    }
    fn drop_first(&mut self, count: usize) {
        self.values.drain(..count);
    }
    fn heap_bytes(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>()
    }
}

/// Booleans; false is below true.
#[derive(Debug, Default)]
pub(in crate::functions) struct Booleans {
    values: Vec<bool>,
}

impl Store for Booleans {
    type Array = BooleanArray;

    fn grow(&mut self, count: usize) {
        self.values.resize(count, false);
    }
    fn set(&mut self, group: usize, array: &Self::Array, row: usize) {
        self.values[group] = array.value(row);
    }
    fn order(&self, group: usize, array: &Self::Array, row: usize) -> Ordering {
        array.value(row).cmp(&self.values[group])
    }
    fn array(&self, seen: &[bool]) -> ArrayRef {
        let values = self.values.iter().zip(seen).map(|(value, seen)| seen.then_some(*value));
        Arc::new(values.collect::<BooleanArray>())
    }
    fn drop_first(&mut self, count: usize) {
        self.values.drain(..count);
    }
    fn heap_bytes(&self) -> usize {
        self.values.capacity()
    }
}

/// Strings, ordered bytewise.
#[derive(Debug, Default)]
pub(in crate::functions) struct Texts {
    values: Vec<String>,
    text_bytes: usize,
}

impl Store for Texts {
    type Array = StringViewArray;

    fn grow(&mut self, count: usize) {
        self.values.resize(count, String::new());
    }
    fn set(&mut self, group: usize, array: &Self::Array, row: usize) {
        let target = &mut self.values[group];
        let before = target.capacity();
        target.clear();
        target.push_str(array.value(row));
        self.text_bytes += target.capacity() - before;
    }
    fn order(&self, group: usize, array: &Self::Array, row: usize) -> Ordering {
        array.value(row).as_bytes().cmp(self.values[group].as_bytes())
    }
    fn array(&self, seen: &[bool]) -> ArrayRef {
        let values = self.values.iter().zip(seen).map(|(value, seen)| seen.then_some(value));
        Arc::new(values.collect::<StringViewArray>())
    }
    fn drop_first(&mut self, count: usize) {
        self.text_bytes -= self.values.drain(..count).map(|text| text.capacity()).sum::<usize>();
    }
    fn heap_bytes(&self) -> usize {
        self.values.capacity() * size_of::<String>() + self.text_bytes
    }
}
