def test_an_absent_config_ends_in_one_line(command, tmp_path):
    done = command('analyze', 'nowhere.py', code=2, cwd=tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('error: config not found: nowhere.py')
    assert 'Traceback' not in done.stderr
    assert not list(tmp_path.iterdir())
