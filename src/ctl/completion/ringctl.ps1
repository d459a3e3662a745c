# PowerShell completion for ringctl: asks the program itself what may follow.

Register-ArgumentCompleter -Native -CommandName 'ringctl' -ScriptBlock {
    param($WordToComplete, $CommandAst, $CursorPosition)
    $Words = @($CommandAst.CommandElements | Where-Object { $_.Extent.EndOffset -le $CursorPosition } | ForEach-Object { "$_" })
    $Program, $Arguments = $Words
    # A blank before the cursor begins a new, empty word. An empty argument has to be quoted for a native program.
    if ($WordToComplete -eq '') { $Arguments = @($Arguments) + '""' }
    $Out = @(& $Program __complete @Arguments 2>$null)
    $Out | Where-Object { $_ -notmatch '^:\d+$' } | ForEach-Object {
        $Candidate, $Description = $_ -split "`t", 2
        if (-not $Description) { $Description = $Candidate }
        if ($Candidate -like "$WordToComplete*") {
            [System.Management.Automation.CompletionResult]::new($Candidate, $Candidate, 'ParameterValue', $Description)
        }
    }
}
