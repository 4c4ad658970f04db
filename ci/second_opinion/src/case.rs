//! A model with an input and its answer, in the layout of ONNX's own test data.

use std::path::{Path, PathBuf};

use onnx::{DataType, Message, TensorProto};

/// Numbers with a name and a shape. Double precision holds all that models of ours take and give.
pub struct Array {
    /// Name of the input or output.
    pub name: String,
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// Row-major; truth values are 0 and 1.
    pub values: Vec<f64>,
    /// Whether the model means floating-point numbers.
    pub float: bool,
}

/// What a model is given, and what it must answer.
pub struct Set {
    /// In the order of the model.
    pub inputs: Vec<Array>,
    /// In the order of the model.
    pub outputs: Vec<Array>,
}

/// Folders of models, by name.
pub fn folders(models: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(models).map_err(|error| format!("cannot read `{}`: {error}", models.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    paths.retain(|path| path.join("model.onnx").is_file());
    paths.sort();
    Ok(paths)
}

/// The data sets of a model.
pub fn data(folder: &Path) -> Result<Vec<Set>, String> {
    let sets = (0..).map(|set| folder.join(format!("test_data_set_{set}"))).take_while(|set| set.is_dir());
    sets.map(|set| Ok(Set { inputs: side(&set, "input")?, outputs: side(&set, "output")? })).collect()
}

fn side(set: &Path, side: &str) -> Result<Vec<Array>, String> {
    let files = (0..).map(|index| set.join(format!("{side}_{index}.pb"))).take_while(|file| file.is_file());
    files
        .map(|file| {
            let bytes = std::fs::read(&file).map_err(|error| error.to_string());
            let tensor = bytes.and_then(|bytes| TensorProto::decode(&*bytes).map_err(|error| error.to_string()));
            tensor.and_then(array).map_err(|problem| format!("`{}`: {problem}", file.display()))
        })
        .collect()
}

fn array(tensor: TensorProto) -> Result<Array, String> {
    let bytes = &tensor.raw_data;
    let values: Vec<f64> = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four).into()).collect(),
        Ok(DataType::Double) => bytes.as_chunks().0.iter().map(|&eight| f64::from_le_bytes(eight)).collect(),
        Ok(DataType::Int32) => bytes.as_chunks().0.iter().map(|&four| i32::from_le_bytes(four).into()).collect(),
        Ok(DataType::Int64) => bytes.as_chunks().0.iter().map(|&eight| i64::from_le_bytes(eight) as f64).collect(),
        Ok(DataType::Bool) => bytes.iter().map(|&byte| f64::from(byte != 0)).collect(),
        _ => return Err(format!("values of type {} are not read", tensor.data_type)),
    };
    let shape: Vec<usize> = tensor.dims.iter().map(|&size| size as usize).collect();
    if shape.iter().product::<usize>() != values.len() {
        return Err(format!("shape {shape:?} for {} values", values.len()));
    }
    let float = [DataType::Float as i32, DataType::Double as i32].contains(&tensor.data_type);
    Ok(Array { name: tensor.name, shape, values, float })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_the_tests_is_read() {
        let tensor = |kind: DataType, raw: &[u8]| TensorProto {
            dims: vec![1, 2],
            data_type: kind as i32,
            raw_data: raw.to_vec(),
            ..TensorProto::default()
        };
        let pairs: [(_, Vec<u8>); 5] = [
            (DataType::Float, [1f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect()),
            (DataType::Double, [1f64, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect()),
            (DataType::Int32, [1i32, -2].iter().flat_map(|v| v.to_le_bytes()).collect()),
            (DataType::Int64, [1i64, -2].iter().flat_map(|v| v.to_le_bytes()).collect()),
            (DataType::Bool, vec![1, 0]),
        ];
        for (kind, raw) in pairs {
            let read = array(tensor(kind, &raw)).unwrap();
            let second = if kind == DataType::Bool { 0.0 } else { -2.0 };
            assert_eq!((read.shape, read.values), (vec![1, 2], vec![1.0, second]), "{kind:?}");
        }
        assert!(array(tensor(DataType::Float, &[0; 4])).is_err_and(|problem| problem.contains("[1, 2] for 1")));
        assert!(array(tensor(DataType::Float16, &[0; 4])).is_err());
    }
}
