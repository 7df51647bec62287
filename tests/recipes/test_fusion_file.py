"""What a fusion's recipe gets wrong is named by its key, in the words of the other recipes."""

from pathlib import Path

import pytest

from lamoid.errors import InputError
from lamoid.recipes.fuse import fuse
from lamoid.recipes.fusion_file import read_fusion_recipe

MEMBERS = '[[members]]\nmodel = "a"\noptions = {density = 0.3}\n[[members]]\nmodel = "b"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f'never_worse = "yes"\n{MEMBERS}', r"never_worse: must be true or false\. Write for instance never_worse = "),
        (f"budget = 1.5\n{MEMBERS}", r"budget: must be a whole number\. Write for instance budget = 100"),
        ('members = ["a"]', r"members\[0\]: must be a table"),
        (
            f'wieghts = "loss"\n{MEMBERS}',
            r"wieghts: is no key of a fusion\. The keys stand in docs/fusion_reference.md",
        ),
        ('[[members]]\nmodel = "a"\nwieght = 2', r"members\[0\]\.wieght: is no key of a fusion"),
        ("budget = 3", r"members: is not given"),
        ("[[members]]\nweight = 2", r"members\[0\]\.model: is not given"),
        (f'rule = "linear\n{MEMBERS}', r"recipe.toml: is not TOML: "),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(InputError, match=told):
        read_fusion_recipe(tmp_path / "recipe.toml", "out")


def test_an_option_that_would_not_count_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'rule = "ties"\n{MEMBERS}')
    with pytest.raises(InputError, match=r"^set: density: is given, and members\[0\] has density = 0\.3 of its own"):
        fuse([path], set=["density=0.2"], out=tmp_path / "out")
    with pytest.raises(InputError, match="a: there is no such folder"):
        fuse([path], set=["normalize=true"], out=tmp_path / "out")
