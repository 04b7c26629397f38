import pyarrow.fs as pafs
import pytest

from ray_itl.errors import InputError
from ray_itl.io.listing import list_files

NAMES = (
    "a.parquet", "b.pq", "c.PARQUET", "notes.txt", "_meta.parquet", ".hidden.parquet",
    "sub/d.parquet", "sub/deep/e.parquet", "_tmp/f.parquet", "other/g.data",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(source, **options):
    sources = source if isinstance(source, list) else [source]
    return list(list_files([str(each) for each in sources], **options).paths)


def test_folder_is_searched_recursively_without_hidden_names(folder):
    assert names(folder) == ["a.parquet", "b.pq", "c.PARQUET", "sub/d.parquet", "sub/deep/e.parquet"]


def test_folder_below_a_hidden_folder_is_still_found(folder):
    assert names(folder / "_tmp") == ["f.parquet"]


def test_file_is_taken_whatever_its_name(folder):
    listing = list_files([str(folder / "other/g.data")])
    assert (listing.root, listing.paths) == (str(folder / "other"), ("g.data",))


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*.parquet", ["a.parquet"]),
        ("?.p*", ["a.parquet", "b.pq"]),
        ("[bc].*", ["b.pq", "c.PARQUET"]),
        ("_*.parquet", ["_meta.parquet"]),
        ("sub/*.parquet", ["sub/d.parquet"]),
        ("*/*.parquet", ["sub/d.parquet"]),
        ("**/*.parquet", ["a.parquet", "sub/d.parquet", "sub/deep/e.parquet"]),
        ("sub/**", ["sub/d.parquet", "sub/deep/e.parquet"]),
        ("**/deep/*", ["sub/deep/e.parquet"]),
    ],
)
def test_glob(folder, glob, expected):
    listing = list_files([f"{folder}/{glob}"])
    assert [listing.full_path(path) for path in listing.paths] == [f"{folder}/{name}" for name in expected]


def test_list_is_joined_sorted_and_without_repeats(folder):
    sources = [folder / "sub", folder / "b.pq", folder / "*.parquet", folder / "b.pq"]
    assert names(sources) == ["a.parquet", "b.pq", "sub/d.parquet", "sub/deep/e.parquet"]


def test_uri_and_explicit_filesystem_find_the_same(folder):
    expected = list_files([str(folder)])
    for listing in (list_files([folder.as_uri()]), list_files([str(folder)], pafs.LocalFileSystem())):
        assert (listing.root, listing.paths, listing.sources) == (expected.root, expected.paths, expected.sources)
    assert names(f"{folder.as_uri()}/sub/*.parquet") == ["d.parquet"]


def test_subtree_filesystem(folder):
    inner = pafs.SubTreeFileSystem(str(folder), pafs.LocalFileSystem())
    assert names("sub", filesystem=inner) == ["d.parquet", "deep/e.parquet"]


def test_relative_path(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert names("sub") == ["d.parquet", "deep/e.parquet"]
    assert list_files(["sub/*.parquet"]).sources == (f"{folder}/sub/*.parquet",)


def test_name_with_wildcards_in_it(tmp_path):
    (tmp_path / "set[1]").mkdir()
    (tmp_path / "set[1]" / "a?.parquet").touch()
    assert names(tmp_path / "set[1]" / "a?.parquet") == ["a?.parquet"]


def test_encoded_uri(tmp_path):
    (tmp_path / "my pool").mkdir()
    (tmp_path / "my pool" / "a b.parquet").touch()
    assert names((tmp_path / "my pool").as_uri()) == ["a b.parquet"]
    assert names((tmp_path / "my pool").as_uri() + "/a%20*.parquet") == ["a b.parquet"]


def test_missing_path_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere' does not exist"):
        list_files([str(tmp_path / "nowhere")])


def test_missing_folder_of_a_glob_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere/\*.parquet' does not exist: nothing at '.*nowhere'"):
        list_files([str(tmp_path / "nowhere" / "*.parquet")])


def test_folder_without_parquet_files(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match=r"no file with rows matched .*needs \*.parquet"):
        list_files([str(tmp_path)])


def test_glob_without_matches(folder):
    with pytest.raises(InputError, match=r"no file with rows matched .*z\*'; a glob matches files"):
        list_files([f"{folder}/z*"])


def test_no_paths():
    with pytest.raises(InputError, match="list of paths is empty"):
        list_files([])


def test_unknown_uri_scheme():
    with pytest.raises(InputError, match=r"cannot open 'ftp9://host/pool'"):
        list_files(["ftp9://host/pool"])


def test_credentials_in_a_uri_are_refused_and_not_shown(folder):
    with pytest.raises(InputError, match=r"the URI s3://\.\.\. holds credentials.*AWS_SECRET_ACCESS_KEY") as caught:
        list_files([str(folder), "s3://name:word@bucket/pool?region=x"])
    assert "word" not in str(caught.value)


def test_sources_on_different_filesystems(folder):
    with pytest.raises(InputError, match="another filesystem"):
        list_files([str(folder), "mock:///pool"])
