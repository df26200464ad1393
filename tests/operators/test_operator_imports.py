import subprocess
import sys


def test_declaring_operators_loads_no_torch() -> None:
    code = "import sys, napari_fidelity.operators; assert not {'torch', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_exist() -> None:
    from napari_fidelity import operators

    assert all(hasattr(operators, name) for name in operators.__all__)
